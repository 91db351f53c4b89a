"""CONNECT: versions, who it is, and which virtual host."""

from __future__ import annotations

import base64
import logging
import secrets
from typing import TYPE_CHECKING

import trio

from leveret.adapters.connection import ConnectionState
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.frames import VERSIONS, Frame
from leveret.adapters.stomp.heartbeat import negotiate
from leveret.adapters.stomp.settings import StompSettings
from leveret.auth import sasl
from leveret.auth.contracts import AccessDenied, Credentials, Principal
from leveret.core.errors import BrokerError, ConnectionRefused

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
__all__ = ["Handshake", "choose_version", "new_session_id"]

log = logging.getLogger(__name__)


def choose_version(offered: str | None) -> str:
    """The highest that both speak; without accept-version it is 1.0. Raise StompFault if there is none."""
    if offered is None:
        return VERSIONS[0]
    wanted = {version.strip(" ") for version in offered.split(",")}
    for version in reversed(VERSIONS):
        if version in wanted:
            return version
    raise StompFault("Version mismatch", f"Supported versions are {','.join(VERSIONS)}\n")


def new_session_id() -> str:
    """As RabbitMQ's: session- and 22 characters."""
    return "session-" + base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")


class Handshake:
    """What CONNECT says, and what comes of it."""

    __slots__ = ("_connection", "mechanism", "username")

    def __init__(self, connection: StompConnection) -> None:
        self._connection = connection
        self.mechanism = ""
        self.username = ""  # as it was claimed; for the log

    async def connect(self, frame: Frame, *, is_implicit: bool = False) -> None:
        """Log in and open, or raise StompFault. is_implicit: there was no CONNECT, so there is no CONNECTED."""
        connection = self._connection
        headers = frame.headers
        version = choose_version(headers.get("accept-version"))
        if version == "1.0":
            headers = {name.strip(" "): value.strip(" ") for name, value in headers.items()}
        own_ms = int(StompSettings.of(connection.settings).heart_beat_s * 1000)
        sends, wants, send_ms, expect_ms = negotiate(headers.get("heart-beat"), own_ms)
        vhost = headers.get("host", StompSettings.of(connection.settings).default_vhost)
        principal = await self._authenticate(headers, vhost)
        try:
            session = await connection.broker.open_session(principal, vhost, connection)
        except ConnectionRefused as error:
            raise StompFault("Bad CONNECT", f"{error}\n") from error
        except BrokerError as error:
            log.warning("conn=%s user=%s refused: %s", connection.name, principal.username, error)
            raise StompFault("Bad CONNECT", f"Virtual host '{vhost}' access denied") from error
        if connection.state is not ConnectionState.STARTING:  # it was closed meanwhile
            session.close()
            return
        connection.opened(session, version)
        if not is_implicit:
            server = connection.settings.server
            connection.write(
                "CONNECTED",
                ("server", f"{server.product}/{server.version}"),
                ("session", connection.session_id),
                ("heart-beat", f"{sends},{wants}"),
                ("version", version),
            )
        connection.heartbeat.start(send_ms, expect_ms)

    async def _authenticate(self, headers: dict[str, str], vhost: str) -> Principal:
        """Fails closed; a refusal comes late, so that guessing is slow. Raise StompFault."""
        connection = self._connection
        stomp, transport = StompSettings.of(connection.settings), connection.transport
        peer = transport.peer
        known = Credentials(
            mechanism="PLAIN",
            vhost=vhost,
            peer_host=peer[0] if peer else None,
            protocol="stomp",
            certificate=transport.certificate,
        )
        login, passcode = headers.get("login"), headers.get("passcode")
        http_login = transport.http_login if stomp.use_http_auth else None
        try:
            if login is None and stomp.ssl_cert_login and known.certificate:
                self.mechanism = "EXTERNAL"
                credentials = sasl.respond("EXTERNAL", b"", known, connection.settings.auth)
            else:
                self.mechanism = "PLAIN"
                if login is None and http_login is not None:
                    login, passcode = http_login
                elif login is None and stomp.default_user:
                    login, passcode = stomp.default_user, stomp.default_pass
                if login is None or passcode is None:
                    raise StompFault("Bad CONNECT", "Missing login or passcode header(s)")
                # sasl speaks bytes: the same rules for names and passwords as at the other listeners.
                response = b"\0%b\0%b" % (_raw(login), _raw(passcode))
                credentials = sasl.respond("PLAIN", response, known, connection.settings.auth)
            self.username = credentials.username or ""
            return await connection.broker.auth.authenticate(credentials)
        except (AccessDenied, sasl.SaslError) as error:
            log.warning("conn=%s mechanism=%s login refused: %s", connection.name, self.mechanism, error)
            await trio.sleep(connection.settings.auth.login_failure_delay_s)
            shown = login if login is not None else self.username
            raise StompFault("Bad CONNECT", f"Access refused for user '{shown}'\n") from None


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
