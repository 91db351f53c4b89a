"""CONNECT: which version, who it is, which virtual host, which session; and CONNACK (5.0 3.1, 3.2)."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from leveret.adapters.connection import ConnectionState
from leveret.adapters.mqtt.delivery import Delivery
from leveret.adapters.mqtt.packets import connack, decode_connect
from leveret.adapters.mqtt.spec import V4, V5, Connect, MqttFault, Properties, Reason
from leveret.adapters.mqtt.topics import check_topic
from leveret.adapters.mqtt.writer import PacketWriter
from leveret.auth import sasl
from leveret.auth.certificates import certificate_name
from leveret.auth.contracts import AccessDenied, Credentials, Principal
from leveret.core.errors import BrokerError, ConnectionRefused

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.adapters.mqtt.settings import MqttSettings
    from leveret.core.session import Session
__all__ = ["Handshake", "Refusal"]

log = logging.getLogger(__name__)

SAYABLE = frozenset({
    Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID, Reason.BAD_USER_NAME_OR_PASSWORD,
    Reason.NOT_AUTHORIZED, Reason.SERVER_UNAVAILABLE, Reason.SERVER_BUSY, Reason.QUOTA_EXCEEDED,
})  # fmt: skip
"""What a version 3 client can be told in CONNACK."""

CERTIFICATE_VHOSTS, PORT_VHOSTS = "mqtt_default_vhosts", "mqtt_port_to_vhost_mapping"


class Refusal(Exception):
    """CONNECT is answered with a reason, then the connection ends. is_login: slowly, so that guessing is slow."""

    def __init__(self, reason: Reason, text: str, *, is_login: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.is_login = is_login


class Handshake:
    """From the bytes of CONNECT to an accepted client, or to a refusal."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._settings: MqttSettings = connection.adapter.settings

    def decode(self, payload: bytes) -> Connect:
        """Raise MqttFault for what is no CONNECT, Refusal for one that we do not want."""
        connection = self._connection
        try:
            packet = decode_connect(payload)
        except MqttFault as fault:
            connection.version = _level(payload)
            if connection.version and fault.reason in (
                Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID
            ):  # fmt: skip
                raise Refusal(fault.reason, fault.text) from None
            raise
        connection.version = packet.version
        return packet

    async def accept(self, packet: Connect) -> None:
        """Log in, open the session, answer. Raise Refusal."""
        connection = self._connection
        properties = packet.properties
        if properties.auth_method is not None:
            raise Refusal(
                Reason.BAD_AUTHENTICATION_METHOD, f"authentication method {properties.auth_method!r}"
            )
        assigned = self._client_id(packet)
        if packet.will is not None:
            _check_will(packet)
        principal, vhost_name = await self._login(packet, assigned or packet.client_id)
        try:
            session = await connection.broker.open_session(principal, vhost_name, connection)
        except ConnectionRefused as error:
            raise Refusal(Reason.QUOTA_EXCEEDED, str(error)) from error
        except BrokerError as error:
            is_known = vhost_name in connection.broker.vhosts
            reason = Reason.NOT_AUTHORIZED if is_known else Reason.BAD_USER_NAME_OR_PASSWORD
            raise Refusal(reason, str(error), is_login=True) from error
        if connection.state is not ConnectionState.STARTING:  # it was closed meanwhile
            session.close()
            return
        self._open(packet, session, assigned)

    def _open(self, packet: Connect, session: Session, assigned: str | None) -> None:
        """Take the client id, find or make the session, answer, go on where it was."""
        connection, settings, properties = self._connection, self._settings, packet.properties
        adapter, broker = connection.adapter, connection.broker
        broker.timers.tick()
        connection.client_id = assigned or packet.client_id
        connection.session = session
        vhost, username = session.vhost.name, session.principal.username
        before = broker.store.definition_writes
        mine, session_present = adapter.session(connection, packet.clean_start, self._expiry_asked(packet))
        if packet.will is not None:
            adapter.wills.register(vhost, connection.client_id, username, packet.will, mine.expiry_s)
        keep_alive_s = self._keep_alive_of(packet)
        connection.outbox.write(
            self._answer(
                packet, session_present=session_present, assigned=assigned, expiry_s=mine.expiry_s,
                keep_alive_s=keep_alive_s,
            )
        )  # fmt: skip
        if broker.store.definition_writes != before:
            connection.hold_until_durable()
        connection.opened(session, mine)
        aliases = min(properties.topic_alias_maximum or 0, settings.topic_alias_maximum)
        writer = PacketWriter(connection, mine, properties.maximum_packet_size, aliases)
        window = min(properties.receive_maximum or 65535, settings.max_inflight)
        mine.attach(connection, Delivery(connection, mine, writer, window=window))
        connection.keep_alive.start(keep_alive_s)
        log.info(
            "conn=%s client=%r vhost=%s user=%s version=%d clean=%s present=%s connected",
            connection.name, connection.client_id, vhost, username, packet.version, packet.clean_start,
            session_present,
        )  # fmt: skip
        broker.dispatcher.run()

    def _expiry_asked(self, packet: Connect) -> int:
        """How long the session outlives its connection: as asked, or for version 3 without clean session as long as
        may be."""
        longest = self._settings.max_session_expiry_s
        if packet.version == V5:
            return min(packet.properties.session_expiry_s or 0, longest)
        return 0 if packet.clean_start else longest

    def _keep_alive_of(self, packet: Connect) -> int:
        """What holds: the client's, or ours where version 5 may be told so (5.0 3.2.2.3.14)."""
        longest = self._settings.max_keep_alive_s
        if longest and packet.version == V5 and not 0 < packet.keep_alive_s <= longest:
            return longest
        return packet.keep_alive_s

    def _answer(
        self,
        packet: Connect,
        *,
        session_present: bool,
        assigned: str | None,
        expiry_s: int,
        keep_alive_s: int,
    ) -> bytes:
        """CONNACK of an accepted CONNECT; version 5 is told what it did not ask for (5.0 3.2.2.3)."""
        if packet.version != V5:
            return connack(packet.version, Reason.SUCCESS, session_present)
        settings, asked = self._settings, packet.properties
        properties = Properties(
            assigned_client_id=assigned,
            session_expiry_s=expiry_s if expiry_s != (asked.session_expiry_s or 0) else None,
            server_keep_alive_s=keep_alive_s if keep_alive_s != packet.keep_alive_s else None,
            receive_maximum=settings.receive_maximum,
            maximum_packet_size=settings.max_packet_size,
            topic_alias_maximum=settings.topic_alias_maximum or None,
        )
        if asked.request_response_information:
            properties.response_information = f"reply/{assigned or packet.client_id}/"
        return connack(V5, Reason.SUCCESS, session_present, properties)

    def refuse(self, refusal: Refusal) -> bytes:
        """CONNACK; nothing for a version 3 client whose mistake no return code names (3.1.1 MQTT-3.2.2-6)."""
        connection = self._connection
        log.warning("conn=%s CONNECT refused: %s", connection.name, refusal.text)
        if connection.version != V5 and refusal.reason not in SAYABLE:
            return b""
        properties = None
        if connection.version == V5 and not refusal.is_login:
            properties = Properties(reason_string=refusal.text[:1000])
        return connack(connection.version, refusal.reason, False, properties)

    # -- who is it

    def _client_id(self, packet: Connect) -> str | None:
        """The one we give, where there is none. Raise Refusal where there must be one (3.1.1 3.1.3.1)."""
        if packet.client_id:
            return None
        if packet.version < V5 and (packet.version < V4 or not packet.clean_start):
            raise Refusal(Reason.CLIENT_IDENTIFIER_NOT_VALID, "an empty client id")
        return f"leveret-{secrets.token_hex(10)}"

    async def _login(self, packet: Connect, client_id: str) -> tuple[Principal, str]:
        connection, transport = self._connection, self._connection.transport
        certificate = transport.certificate
        peer = transport.peer
        known = Credentials(
            mechanism="PLAIN", client_id=client_id, peer_host=peer[0] if peer else None, protocol="mqtt",
            certificate=certificate,
        )  # fmt: skip
        auth = connection.broker.settings.auth
        password = packet.password
        by_certificate = None
        if packet.username is None and certificate and self._settings.ssl_cert_login:
            by_certificate = certificate_name(certificate, auth.cert_login_from)
        try:
            if packet.username is not None:
                username, vhost = self._vhost_of(packet.username, None)
                response = f"\0{username}\0".encode() + (password or b"")
                if b"\0" in (password or b"") or "\0" in username:
                    raise sasl.SaslError("a NUL in user name or password")
                credentials = sasl.respond("PLAIN", response, known, auth)
            elif by_certificate is not None:
                username, vhost = self._vhost_of(by_certificate, by_certificate)
                credentials = sasl.respond("EXTERNAL", b"", known, auth)
            elif "ANONYMOUS" in auth.mechanisms:
                username, vhost = self._vhost_of("", None)
                credentials = sasl.respond("ANONYMOUS", b"", known, auth)
            else:
                raise sasl.SaslError("no user name, and anonymous logins are off")
            return await connection.broker.auth.authenticate(credentials), vhost
        except (AccessDenied, sasl.SaslError) as error:
            reason = Reason.NOT_AUTHORIZED if packet.username is None else Reason.BAD_USER_NAME_OR_PASSWORD
            raise Refusal(reason, f"login refused: {error}", is_login=True) from error

    def _vhost_of(self, username: str, certificate: str | None) -> tuple[str, str]:
        """User and virtual host, in RabbitMQ's order: `vhost:user`, by port, default; with a certificate its own
        mapping and the port come first (rabbit_mqtt_processor.erl). The maps are global parameters."""
        parameters = self._connection.broker.parameters
        local = self._connection.transport.local
        by_port = _mapped(parameters.get(PORT_VHOSTS), str(local[1]) if local else "")
        if certificate is not None:
            found = _mapped(parameters.get(CERTIFICATE_VHOSTS), certificate) or by_port
            if found is not None:
                return username, found
        if not self._settings.ignore_colons_in_username:
            vhost, colon, name = username.rpartition(":")
            if colon:
                return name, vhost
        return username, by_port or self._settings.vhost


def _mapped(mapping: object, key: str) -> str | None:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, str) else None


def _level(payload: bytes) -> int:
    """The protocol level that a refusal is to be written in; 0: whatever this is, it is not MQTT."""
    for name, at in ((b"\0\x04MQTT", 6), (b"\0\x06MQIsdp", 8)):
        if payload.startswith(name) and len(payload) > at:
            level = payload[at] & 0x7F
            return V5 if level >= V5 else V4
    return 0


def _check_will(packet: Connect) -> None:
    will = packet.will
    assert will is not None
    try:
        check_topic(will.topic)
    except MqttFault as fault:
        raise Refusal(Reason.TOPIC_NAME_INVALID, f"the will's topic: {fault.text}") from None
