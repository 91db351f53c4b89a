"""A session's end of its bindings: routing sees a queue, the session sees what its subscriptions match."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.mqtt.publish_view import publish_view_of

if TYPE_CHECKING:
    from leveret.adapters.mqtt.session import MqttSession
    from leveret.core.message import Envelope
__all__ = ["SessionDestination"]


class SessionDestination:
    """Takes what the exchange routes to a session, and decides before anything is kept.

    QoS 0 goes straight to the connection, encoded once for all receivers; nobody there, or congested: it is dropped.
    QoS 1 and 2 go into the session's queue, which is an ordinary queue of the virtual host.
    """

    __slots__ = ("is_durable", "name", "session")

    kind = "queue"

    def __init__(self, session: MqttSession, name: str) -> None:
        self.session = session
        self.name = name
        self.is_durable = False  # whether what it takes may have to be stored: it has a durable queue

    def __repr__(self) -> str:
        return f"<Inbox {self.name!r}>"

    def publish(self, envelope: Envelope, bodies: list[bytes]) -> int:
        """As `Queue.publish`: how many were rejected."""
        session = self.session
        encoded = envelope.encoded
        view = encoded.get("mqtt") if encoded is not None else None
        if view is None:
            view = publish_view_of(envelope, session.keymap)
            if view is None:
                return 0
        grant = (
            session.grants.get(view.topic) if view.origin is not session else session.own_grant(view.topic)
        )
        if grant is None:
            if view.origin is not session:
                grant = session.grant(view.topic)
            if grant is None:
                return 0
        if view.qos and grant.qos:
            return session.keep(envelope, bodies)
        delivery = session.delivery
        if delivery is not None:
            delivery.writer.qos0(view, grant, bodies)
        return 0

    @property
    def may_reject(self) -> bool:
        """As `Queue.may_reject`: of the session's queue, or by the setting mqtt.queue_overflow."""
        queue = self.session.queue
        return queue is not None and (
            queue.may_reject or self.session.adapter.settings.queue_overflow == "reject-publish"
        )

    def publish_each(self, envelopes: list[Envelope], bodies: list[bytes]) -> int:
        """As `publish`, for messages that each have their own envelope."""
        return sum([self.publish(envelope, [body]) for envelope, body in zip(envelopes, bodies, strict=True)])
