"""One principal in one virtual host: what adapters may do with the broker, they do through a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from leveret.auth.contracts import Permission, Principal, Resource
from leveret.core.equivalence import describe_resource
from leveret.core.errors import (
    AccessRefused,
    AuthorizationPending,
    NotAllowed,
    PreconditionFailed,
    ResourceLocked,
)
from leveret.core.message import Envelope
from leveret.core.publishing import PublishPipeline, PublishTarget
from leveret.core.reply_to import TOPIC_REPLY
from leveret.core.routing import Routed, route, routing_keys
from leveret.core.topology import bindings, exchanges, queues
from leveret.core.topology.checks import check_exclusive, require_exchange, require_queue

if TYPE_CHECKING:
    from leveret.auth.chain import AuthChain
    from leveret.auth.internal import InternalBackend
    from leveret.conf.settings import Settings
    from leveret.core.counters import Traffic
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.reply_to import Replies
    from leveret.core.timers import Timers
    from leveret.core.vhost import Vhost
__all__ = ["Published", "Session"]

REMEMBERED = 4096  # answers of the backends; then all are forgotten
Key = tuple[str, str, Permission, str | None]  # kind, name, permission, routing key


@dataclass(frozen=True, slots=True)
class Published:
    """is_routed: the messages reached at least one queue. rejected: how many of the last ones a full queue rejected."""

    is_routed: bool
    rejected: int


class SessionBroker(Protocol):
    """The parts of the broker that sessions use."""

    settings: Settings
    users: InternalBackend
    auth: AuthChain
    timers: Timers
    traffic: Traffic
    replies: Replies


class Session:
    """Permissions, topology and publishing for one principal.

    Each synchronous method either does everything or raises an error of core/errors.py and changes nothing. After
    AuthorizationPending, await `authorize(pending)` and call the method again. `connection` owns exclusive queues and is
    compared by identity.
    """

    def __init__(self, broker: SessionBroker, vhost: Vhost, principal: Principal, connection: object) -> None:
        self.broker = broker
        self.vhost = vhost
        self.principal = principal
        self.connection = connection
        self.pending_name: str | None = None  # given to a queue whose declaration waits for an authorization
        self._answers: dict[Key, bool] = {}
        self._pipeline: PublishPipeline | None = None
        self._revision = broker.users.revision
        self._asked_at: float | None = None  # the oldest answer of a backend that had to ask elsewhere

    def __repr__(self) -> str:
        return f"<Session user={self.principal.username!r} vhost={self.vhost.name!r}>"

    async def enter(self) -> None:
        """Check that the principal may use the virtual host at all. Raises NotAllowed."""
        question = Resource("vhost", self.vhost.name)
        allowed = self.broker.auth.authorize_nowait(self.principal, self.vhost.name, None, question)
        if allowed is None:
            allowed = await self.broker.auth.authorize(self.principal, self.vhost.name, None, question)
        if not allowed:
            raise NotAllowed(
                f"access to vhost '{self.vhost.name}' refused for user '{self.principal.username}'"
            )

    def renew(self, principal: Principal) -> None:
        """Take new credentials of the same user; all permissions are asked for again."""
        self.principal = principal
        self._answers.clear()
        self.vhost.epoch += 1  # remembered targets were checked for the old one

    def close(self) -> None:
        """The connection has ended: its exclusive queues are deleted."""
        self.vhost.release_exclusive(self.connection)

    # -- permissions

    def require(self, permission: Permission, kind: str, name: str, routing_key: str | None = None) -> None:
        """Raise AccessRefused, or AuthorizationPending if that is not known yet.

        kind: "exchange", "queue", or "topic" (name is the exchange's then). The default exchange is asked for as
        amq.default.
        """
        if not name and kind != "queue":
            name = "amq.default"
        if not self._is_allowed(permission, kind, name, routing_key):
            thing = describe_resource("exchange" if kind == "topic" else kind, name, self.vhost.name)
            if kind == "topic":
                thing = f"topic '{routing_key}' in {thing}"
            raise AccessRefused(
                f"{permission} access to {thing} refused for user '{self.principal.username}'"
            )

    def require_any(self, kind: str, name: str) -> None:
        """For passive declarations: any permission at all. Raise AccessRefused as if for configure."""
        for permission in (Permission.WRITE, Permission.READ):
            if self._is_allowed(permission, kind, name, None):
                return
        self.require(Permission.CONFIGURE, kind, name)

    def require_topic(self, permission: Permission, exchange: Exchange, routing_key: str) -> None:
        """Topic exchanges ask for the key too. Raise AccessRefused or AuthorizationPending."""
        if exchange.type == "topic":
            self.require(permission, "topic", exchange.name, routing_key)

    def _is_allowed(self, permission: Permission, kind: str, name: str, routing_key: str | None) -> bool:
        self._forget_stale()
        key = kind, name, permission, routing_key
        allowed = self._answers.get(key)
        if allowed is None:
            allowed = self.broker.auth.authorize_nowait(
                self.principal, self.vhost.name, permission, Resource(kind, name, routing_key)
            )
            if allowed is None:
                raise AuthorizationPending(kind, name, permission, routing_key)
            # Known from memory: to remember it for each of ten thousand sessions would cost more than to ask again.
        return allowed

    def _remember(self, key: Key, allowed: bool) -> None:
        if len(self._answers) >= REMEMBERED:
            self._answers.clear()
        self._answers[key] = allowed

    def _forget_stale(self) -> None:
        revision = self.broker.users.revision
        if revision != self._revision:
            self._revision = revision
            self._answers.clear()
        asked_at = self._asked_at
        lifetime_s = max(self.broker.settings.auth.cache_ttl_s, 1.0)  # 0 would ask for ever
        if asked_at is not None and self.broker.timers.now > asked_at + lifetime_s:
            self._asked_at = None
            self._answers.clear()

    async def authorize(self, pending: AuthorizationPending) -> None:
        """Ask the backends that need I/O, and remember the answer (for `auth.cache_ttl_s`)."""
        permission = Permission(pending.permission)
        allowed = await self.broker.auth.authorize(
            self.principal,
            self.vhost.name,
            permission,
            Resource(pending.kind, pending.name, pending.routing_key),
        )
        if self._asked_at is None:
            self._asked_at = self.broker.timers.now
        self._remember((pending.kind, pending.name, permission, pending.routing_key), bool(allowed))

    def check_user_id(self, user_id: str | None) -> None:
        """Raise PreconditionFailed if a message claims to be from somebody else (validated user-id)."""
        username = self.principal.username
        if user_id is not None and user_id != username and not self.principal.may_impersonate:
            raise PreconditionFailed(
                f"user_id property set to '{user_id}' but authenticated user was '{username}'"
            )

    # -- topology: the rules are in core/topology/, whose functions take the session as their first argument

    exchange_declare = exchanges.declare_exchange
    exchange_delete = exchanges.delete_exchange
    exchange_bind = bindings.bind_exchange
    exchange_unbind = bindings.unbind_exchange
    queue_declare = queues.declare_queue
    queue_bind = bindings.bind_queue
    queue_unbind = bindings.unbind_queue
    queue_delete = queues.delete_queue

    def queue_purge(self, name: str) -> int:
        """Drop the ready messages of a queue.

        Returns:
            How many there were.

        Raises:
            NotFound, AccessRefused, ResourceLocked, AuthorizationPending
        """
        return self._readable(name).purge()

    def queue_for_consume(self, name: str) -> Queue:
        """The queue, if it may be read from here. Raise NotFound, AccessRefused, ResourceLocked."""
        return self._readable(name)

    def queue_for_get(self, name: str) -> Queue:
        """The queue, if it may be read from here. Raise NotFound, AccessRefused, ResourceLocked."""
        queue = self._readable(name)
        if queue.type == "quorum" and queue.limits.single_active_consumer:
            thing = describe_resource("queue", name, self.vhost.name)
            raise ResourceLocked(
                f"cannot obtain access to locked {thing}. basic.get operations are not supported by quorum queues "
                "with single active consumer"
            )
        return queue

    def _readable(self, name: str) -> Queue:
        self.require(Permission.READ, "queue", name)
        queue = require_queue(self.vhost, name)
        check_exclusive(queue, self.connection)
        return queue

    # -- publishing

    def target(self, exchange_name: str, routing_key: str) -> PublishTarget:
        """Check that messages with this key may be published there, and resolve where they go.

        Returns:
            A target whose exchange and key differ from the arguments for replies to an MQTT client (core/reply_to.py).

        Raises:
            NotFound, AccessRefused, AuthorizationPending
        """
        if not exchange_name and routing_key.startswith(TOPIC_REPLY):  # an MQTT client's response topic
            exchange_name, routing_key = self.broker.replies.topic_exchange, routing_key[len(TOPIC_REPLY) :]
        self.require(Permission.WRITE, "exchange", exchange_name)
        exchange = require_exchange(self.vhost, exchange_name)
        if exchange.is_internal:
            raise AccessRefused(
                f"cannot publish to internal {describe_resource('exchange', exchange_name, self.vhost.name)}"
            )
        self.require_topic(Permission.WRITE, exchange, routing_key)
        return PublishTarget(exchange, routing_key, self.vhost.epoch)

    def route(self, exchange: Exchange, envelope: Envelope) -> Routed:
        """As `routing.route`, for an exchange from `target`; on topic exchanges the CC and BCC keys must be allowed too.

        Raises:
            InvalidArgument, AccessRefused, AuthorizationPending
        """
        if exchange.type == "topic":
            for key in routing_keys(envelope)[1:]:
                self.require_topic(Permission.WRITE, exchange, key)
        return route(exchange, envelope)

    def publish(
        self, envelope: Envelope, bodies: bytes | list[bytes], *, is_mandatory: bool = False
    ) -> Published:
        """Check, route and enqueue messages that share an envelope, for publishers that do not stay connected.

        They are durable after the next commit of the store, not before.

        Args:
            bodies: one body, or several of one run.
            is_mandatory: the publisher is told if they reach no queue, so they count as returned, not as dropped.

        Raises:
            NotFound, AccessRefused, InvalidArgument, PreconditionFailed (user_id), AuthorizationPending: nothing was
            published.
        """
        messages = [bodies] if isinstance(bodies, bytes) else bodies
        target = self.target(envelope.exchange, envelope.routing_key)
        exchange = target.exchange
        if exchange.name != envelope.exchange:  # an MQTT client's response topic
            envelope = Envelope(exchange.name, target.routing_key, envelope.header, envelope.properties)
        self.check_user_id(envelope.properties.user_id)
        pipeline = self.pipeline
        is_routed, rejected, _ = pipeline.publish(target, envelope, messages)
        pipeline.note_sizes()
        self.broker.traffic.of_protocol(self._protocol).count(
            len(messages), is_routed=is_routed, is_returned=is_mandatory
        )
        return Published(is_routed, rejected)

    @property
    def pipeline(self) -> PublishPipeline:
        """The session's own, made when it first publishes; adapters of connections have theirs."""
        if self._pipeline is None:
            self._pipeline = PublishPipeline(
                self.vhost,
                self.broker.replies,
                self.route,
                self.broker.traffic.sizes_of(self._protocol),
                connection_name=getattr(self.connection, "name", ""),
                username=self.principal.username,
                has_sizes=True,
            )
        return self._pipeline

    @property
    def _protocol(self) -> str:
        return getattr(self.connection, "protocol_name", "internal")
