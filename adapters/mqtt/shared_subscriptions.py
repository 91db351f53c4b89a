"""Shared subscriptions: `$share/group/filter` is a queue with one consumer per member (5.0 4.8.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.spec import Subscription
from leveret.adapters.mqtt.topics import split_shared
from leveret.core.exchange import Binding

if TYPE_CHECKING:
    from leveret.adapters.mqtt.adapter import MqttAdapter
    from leveret.adapters.mqtt.session import MqttSession
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["SharedSubscriptions"]

PREFIX = "mqtt-shared-"
NAME_BYTES = 200


def group_queue_name(text: str) -> str:
    """mqtt-shared-<group>/<filter>; hashed if that is too long for a queue."""
    _, _, rest = text.partition("/")
    raw = rest.encode()
    return PREFIX + (rest if len(raw) <= NAME_BYTES else hashlib.sha256(raw).hexdigest())


class SharedSubscriptions:
    """The members of each group, and its queue.

    The queue takes turns and gives the messages of a lost member to the others: the core's work. It is durable, for
    members may be; it goes with its last member.
    """

    def __init__(self, adapter: MqttAdapter) -> None:
        self._adapter = adapter
        self._members: dict[tuple[str, str], set[MqttSession]] = {}  # by virtual host and queue

    @property
    def subscriptions_count(self) -> int:
        return sum(map(len, self._members.values()))

    def check(self, session: Session, text: str) -> str:
        """May the user join? Raises as the core does, and MqttFault for a filter that is none. The queue's name."""
        name = group_queue_name(text)
        if name not in session.vhost.queues:
            session.queue_declare(name, durable=True)
        else:
            session.queue_for_consume(name)
        return name

    def join(self, member: MqttSession, subscription: Subscription) -> bool:
        """Add a member, or replace its options. The queue is there (`check`). True: it was a member already."""
        text = subscription.filter
        existed = text in member.shared
        member.shared[text] = subscription
        if member.is_durable:
            self._adapter.records.save_subscription(member.vhost.name, member.client_id, subscription)
        queue = self.restore(member, text)
        if member.delivery is not None:
            if existed:
                member.delivery.leave(queue)
            self.attach(member, text)
        return existed

    def restore(self, member: MqttSession, text: str) -> Queue:
        """The group's queue, bound, and the member in it."""
        vhost, name = member.vhost, group_queue_name(text)
        queue = vhost.queues.get(name)
        if queue is None:
            queue = vhost.add_queue(name, durable=True, exclusive=False, auto_delete=False, arguments={})
        self._members.setdefault((vhost.name, name), set()).add(member)
        shared = split_shared(text)
        exchange = vhost.exchanges.get(self._adapter.settings.exchange)
        if shared is not None and exchange is not None:
            vhost.bind(exchange, Binding(queue, self._adapter.keymap.binding_key(shared[1])))
        return queue

    def attach(self, member: MqttSession, text: str) -> None:
        """The member's client is here."""
        shared = split_shared(text)
        queue = member.vhost.queues.get(group_queue_name(text))
        if shared is not None and queue is not None and member.delivery is not None:
            member.delivery.join(queue, member.shared[text], self._adapter.keymap.pattern(shared[1]))

    def leave(self, member: MqttSession, text: str) -> bool:
        """False: it was no member. The last one takes the queue with it."""
        if member.shared.pop(text, None) is None:
            return False
        vhost, name = member.vhost, group_queue_name(text)
        if member.is_durable:
            self._adapter.records.delete_subscription(vhost.name, member.client_id, text)
        queue = vhost.queues.get(name)
        if queue is not None and member.delivery is not None:
            member.delivery.leave(queue)
        members = self._members.get((vhost.name, name))
        if members is not None:
            members.discard(member)
            if not members:
                del self._members[vhost.name, name]
                if queue is not None:
                    vhost.remove_queue(queue)
        return True

    def drop_orphans(self) -> None:
        """After recovery: the queues of groups whose members were all gone with their connections."""
        for vhost in self._adapter.broker.vhosts.values():
            for name, queue in list(vhost.queues.items()):
                if name.startswith(PREFIX) and (vhost.name, name) not in self._members:
                    vhost.remove_queue(queue)
