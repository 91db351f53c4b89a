"""From the protocol header to connection.open-ok: SASL, tuning, the virtual host."""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING, Any

import trio

import leveret
from leveret.adapters.amqp import methods
from leveret.adapters.amqp.faults import ConnectionFault, reply_text
from leveret.adapters.amqp.methods import Method
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER
from leveret.adapters.amqp.settings import AmqpSettings
from leveret.adapters.connection import ConnectionState
from leveret.auth import sasl
from leveret.auth.contracts import AccessDenied, Credentials, Principal
from leveret.core.errors import BrokerError

if TYPE_CHECKING:
    from leveret.adapters.amqp.connection import AmqpConnection
__all__ = ["Handshake"]

log = logging.getLogger(__name__)

ACCEPTED_HEADERS = {
    PROTOCOL_HEADER,
    b"AMQP\x01\x01\x00\x09",
    b"AMQP\x01\x01\x09\x01",
}  # 0-9-1, 0-9 (as RabbitMQ)
FRAME_MIN = 4096  # RabbitMQ asks for 8192 since 4.1; clients of before still send 4096
CAPABILITIES = {
    name: True
    for name in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    )
}


class Handshake:
    """Legal methods per state: start-ok in starting, tune-ok in tuning, open in opening; anything else is 503."""

    def __init__(self, connection: AmqpConnection) -> None:
        self._connection = connection
        self.is_started = False  # the peer speaks AMQP 0-9-1
        self.mechanism = ""
        self.client_properties: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.heartbeat_s = 0
        self.principal: Principal | None = None
        self._mechanisms: list[str] = []

    def on_header(self, header: bytes) -> None:
        connection = self._connection
        if header not in ACCEPTED_HEADERS:
            hint = " (a TLS client on the plain port?)" if header[:2] == b"\x16\x03" else ""
            raise ConnectionFault(501, f"unsupported protocol header {header!r}{hint}")
        self.is_started = True
        settings = connection.settings
        self._mechanisms = sasl.offered(settings.auth, has_tls=bool(connection.transport.tls_info))
        server = settings.server
        connection.send(
            methods.ConnectionStart(
                version_major=0,
                version_minor=9,
                server_properties={
                    "capabilities": CAPABILITIES,
                    "cluster_name": str(
                        connection.broker.parameters.get("cluster_name")
                        or server.cluster_name
                        or connection.broker.node_name
                    ),
                    "copyright": "Copyright (c) 2026 the Leveret authors",
                    "information": "Leveret, licensed under Apache-2.0",
                    "platform": f"Python {platform.python_version()}",
                    "product": server.product,
                    "version": server.version,
                    "leveret_version": leveret.__version__,
                },
                mechanisms=" ".join(self._mechanisms),
                locales="en_US",
            )
        )

    def on_method(self, method: Method) -> None:
        connection = self._connection
        match connection.state, method:
            case ConnectionState.STARTING, methods.ConnectionStartOk():
                self._on_start_ok(method)
            case ConnectionState.TUNING, methods.ConnectionTuneOk():
                self._on_tune_ok(method)
            case ConnectionState.OPENING, methods.ConnectionOpen():
                connection.defer(lambda: self._open(method.virtual_host))
            case _, methods.ConnectionClose():
                connection.send(methods.ConnectionCloseOk())
                connection.move_to(ConnectionState.CLOSED)
            case _, methods.ConnectionCloseOk():
                connection.move_to(ConnectionState.CLOSED)
            case state, _:
                raise ConnectionFault(
                    503, f"unexpected method '{method.name}' in connection state {state}", method.id
                )

    # -- who is it

    def _on_start_ok(self, method: methods.ConnectionStartOk) -> None:
        self.client_properties = method.client_properties
        capabilities = method.client_properties.get("capabilities")
        self.capabilities = capabilities if isinstance(capabilities, dict) else {}
        self.mechanism = method.mechanism
        if method.mechanism not in self._mechanisms:
            raise ConnectionFault(503, f"unknown authentication mechanism '{method.mechanism}'", (10, 11))
        connection = self._connection
        connection.defer(lambda: self._authenticate(method.mechanism, method.response))

    def _credentials(self, mechanism: str, response: bytes) -> Credentials:
        connection = self._connection
        peer = connection.transport.peer
        return sasl.respond(
            mechanism,
            response,
            Credentials(
                mechanism=mechanism,
                peer_host=peer[0] if peer else None,
                protocol="amqp",
                certificate=connection.transport.certificate,
            ),
            connection.settings.auth,
        )

    async def _authenticate(self, mechanism: str, response: bytes) -> None:
        connection = self._connection
        try:
            self.principal = await connection.broker.auth.authenticate(self._credentials(mechanism, response))
        except (AccessDenied, sasl.SaslError) as error:
            log.warning("conn=%s mechanism=%s login refused: %s", connection.name, mechanism, error)
            await self._refuse(mechanism)
            return
        if connection.state is not ConnectionState.STARTING:  # it was closed meanwhile
            return
        amqp = AmqpSettings.of(connection.settings)
        connection.move_to(ConnectionState.TUNING)
        connection.send(
            methods.ConnectionTune(
                channel_max=amqp.channel_max, frame_max=amqp.frame_max, heartbeat=amqp.heartbeat_s
            )
        )

    async def _refuse(self, mechanism: str) -> None:
        """Slowly, so that guessing is slow; with a close if the client understands it (authentication_failure_close)."""
        connection = self._connection
        await trio.sleep(connection.settings.auth.login_failure_delay_s)
        if connection.state is not ConnectionState.STARTING:  # it was closed meanwhile
            return
        if self.capabilities.get("authentication_failure_close") is True:
            connection.send(
                methods.ConnectionClose(
                    reply_code=403,
                    reply_text=reply_text(
                        403,
                        f"Login was refused using authentication mechanism {mechanism}. "
                        "For details see the broker logfile.",
                    ),
                    class_id=0,
                    method_id=0,
                )
            )
            connection.move_to(ConnectionState.CLOSING)
            connection.broker.timers.after(5.0, connection.cancel)
        else:
            connection.move_to(ConnectionState.CLOSED)

    async def update_secret(self, secret: bytes) -> None:
        """connection.update-secret: the same user, proved anew (a fresh token)."""
        connection, principal = self._connection, self.principal
        assert principal is not None
        if principal.expires_at is None:  # nothing to renew: as RabbitMQ's internal backend, which ignores it
            connection.send(methods.ConnectionUpdateSecretOk())
            return
        credentials = Credentials(
            mechanism="PLAIN",
            username=principal.username,
            password=secret.decode("utf-8", "surrogateescape"),
            peer_host=connection.transport.peer[0] if connection.transport.peer else None,
            protocol="amqp",
        )
        try:
            renewed = await connection.broker.auth.authenticate(credentials)
        except AccessDenied as error:
            log.warning(
                "conn=%s user=%s update-secret refused: %s", connection.name, principal.username, error
            )
            raise ConnectionFault(530, "New secret was refused by one of the backends", (10, 70)) from error
        if renewed.username != principal.username:
            raise ConnectionFault(530, "New secret was refused by one of the backends", (10, 70))
        self.principal = renewed
        assert connection.session is not None
        connection.session.renew(renewed)
        connection.send(methods.ConnectionUpdateSecretOk())

    # -- how do we talk

    def _on_tune_ok(self, method: methods.ConnectionTuneOk) -> None:
        connection = self._connection
        offered = AmqpSettings.of(connection.settings)
        for name, value, limit in (
            ("channel_max", method.channel_max, offered.channel_max),
            ("frame_max", method.frame_max, offered.frame_max),
        ):
            if limit and value > limit:
                raise ConnectionFault(
                    530,
                    f"negotiated {name} = {value} is higher than the maximum allowed value ({limit})",
                    (10, 31),
                )
            if limit and not value:
                raise ConnectionFault(
                    530,
                    f"negotiated {name} = 0 (no limit) is higher than the maximum allowed value ({limit})",
                    (10, 31),
                )
        if method.frame_max and method.frame_max < FRAME_MIN:
            raise ConnectionFault(
                530,
                f"negotiated frame_max = {method.frame_max} is lower than the minimum allowed value ({FRAME_MIN})",
                (10, 31),
            )
        connection.frame_max = method.frame_max
        connection.parser.frame_max = method.frame_max
        connection.channel_max = method.channel_max
        self.heartbeat_s = method.heartbeat
        connection.move_to(ConnectionState.OPENING)

    async def _open(self, vhost: str) -> None:
        connection = self._connection
        assert self.principal is not None
        try:
            session = await connection.broker.open_session(self.principal, vhost, connection)
        except BrokerError as error:
            raise ConnectionFault(530, str(error), (10, 40)) from error
        if connection.state is not ConnectionState.OPENING:  # it was closed meanwhile
            session.close()
            return
        connection.opened(session)
        connection.send(methods.ConnectionOpenOk())
