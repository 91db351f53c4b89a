"""Who comes in without a login header, and who does not; what ends a connection from outside."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import Got, StompClient, connect_frame, frame, frames_of

from leveret.adapters.stomp.adapter import StompAdapter
from leveret.adapters.stomp.settings import StompSettings
from leveret.adapters.transport import PlainTransport
from leveret.conf.settings import Settings

STOMP = StompSettings()
CERTIFICATE: dict[str, object] = {
    "subject": ((("commonName", "device"),),),
    "subjectAltName": (("DNS", "device.example"),),
}


class KnownTransport(PlainTransport):
    """As if a WebSocket's request or a TLS handshake had told something."""

    def __init__(
        self, sock: socket.socket, login: tuple[str, str] | None, certificate: dict[str, object] | None
    ) -> None:
        super().__init__(sock)
        self._login, self._certificate = login, certificate

        self.acknowledged = 0

    def acknowledge(self) -> None:
        self.acknowledged += 1

    @property
    def http_login(self) -> tuple[str, str] | None:
        return self._login

    @property
    def certificate(self) -> dict[str, object] | None:
        return self._certificate


async def connect(
    server: InProcess,
    *,
    http_login: tuple[str, str] | None = None,
    certificate: dict[str, object] | None = None,
    **headers: Any,
) -> Got:
    """The answer to a CONNECT."""
    ours, theirs = socket.socketpair()
    transport = KnownTransport(ours, http_login, certificate)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.adapter.serve, transport)
        await stream.send_all(connect_frame(**headers))
        data = b""
        while b"\0" not in data:
            data += await stream.receive_some()
        await stream.aclose()
    transport.close()
    return frames_of(data[: data.index(b"\0") + 1])[0]


NOBODY: dict[str, Any] = {"login": None, "passcode": None}
GUEST = ("guest", "guest")


@pytest.mark.parametrize(
    ("changes", "http_login", "headers", "is_in"),
    [
        ({"use_http_auth": True}, GUEST, NOBODY, True),
        ({"use_http_auth": True}, ("guest", "wrong"), NOBODY, False),
        ({"use_http_auth": True}, ("guest", "wrong"), {}, True),  # who sends a login is asked about that one
        ({"use_http_auth": True}, GUEST, {"passcode": "wrong"}, False),
        ({"use_http_auth": True}, None, NOBODY, False),
        ({}, GUEST, NOBODY, False),
        (
            {"use_http_auth": True, "default_user": "guest", "default_pass": "guest"},
            ("guest", "wrong"),
            NOBODY,
            False,
        ),
        ({"default_user": "guest", "default_pass": "guest"}, None, NOBODY, True),
        ({"default_user": "guest", "default_pass": "guest"}, None, {"passcode": None}, False),
        ({"default_user": "guest", "default_pass": "wrong"}, None, NOBODY, False),
    ],
)
async def test_http_logins_and_default_users(
    changes: dict[str, Any], http_login: tuple[str, str] | None, headers: dict[str, Any], is_in: bool
) -> None:
    async with broker_in_process(StompAdapter, stomp=replace(STOMP, **changes)) as server:
        answer = await connect(server, http_login=http_login, **headers)
        assert answer.command == ("CONNECTED" if is_in else "ERROR")


@pytest.mark.parametrize(
    ("login_from", "certificate", "is_in"),
    [
        ("common_name", CERTIFICATE, True),
        ("subject_alternative_name", CERTIFICATE, False),  # there is no such user
        ("common_name", {"subject": ()}, False),
        ("common_name", None, False),
    ],
)
async def test_certificates(login_from: str, certificate: dict[str, object] | None, is_in: bool) -> None:
    settings: dict[str, Any] = {
        "stomp": replace(STOMP, ssl_cert_login=True),
        "auth": replace(Settings().auth, cert_login_from=login_from, login_failure_delay_s=0.0),
    }
    async with broker_in_process(StompAdapter, **settings) as server:
        server.broker.users.add_user("device", "secret")
        server.broker.users.set_permissions("device", "/", ".*", ".*", ".*")
        answer = await connect(server, certificate=certificate, **NOBODY)
        assert answer.command == ("CONNECTED" if is_in else "ERROR")
        assert b"secret" not in answer.body


async def test_a_certificate_is_no_login_unless_it_may_be() -> None:
    async with broker_in_process(StompAdapter) as server:
        server.broker.users.add_user("CN=device", "secret")
        answer = await connect(server, certificate=CERTIFICATE, **NOBODY)
        assert answer.body == b"Missing login or passcode header(s)"


async def test_limits_on_connections_are_told() -> None:
    async with broker_in_process(StompAdapter, limits=replace(Settings().limits, connection_max=1)) as server:
        first = await StompClient.open(server)
        second = StompClient(server)
        (error,) = await second.ask(connect_frame())
        assert error["message"] == "Bad CONNECT"
        assert error.body == b"connection refused: node connection limit (1) is reached\n"
        await first.close()
        await second.close()


async def test_a_deleted_user_and_a_deleted_vhost_end_their_connections() -> None:
    async with broker_in_process(StompAdapter) as server:
        broker = server.broker
        broker.add_vhost("other")
        broker.users.add_user("somebody", "secret")
        for vhost in ("/", "other"):
            broker.users.set_permissions("somebody", vhost, ".*", ".*", ".*")
        clients = [
            await StompClient.open(server, login="somebody", passcode="secret", host=vhost)
            for vhost in ("/", "other")
        ]
        for client in clients:
            await client.ask(frame("SUBSCRIBE", id=0, destination="/topic/a"))
        broker.delete_vhost("other")
        (error,) = await clients[1].read()
        assert error.body == b"CONNECTION_FORCED - vhost 'other' was deleted"
        broker.users.delete_user("somebody")
        (error,) = await clients[0].read()
        assert error.body == b"CONNECTION_FORCED - user 'somebody' is deleted"
        for client in clients:
            await client.closed()
            await client.close()


async def test_deliveries_that_nobody_settles(autojump_clock: trio.testing.MockClock) -> None:
    limits = replace(Settings().limits, consumer_timeout_ms=60_000)
    async with broker_in_process(StompAdapter, limits=limits) as server:
        client = StompClient(server)
        await client.send(
            connect_frame(),
            frame("SUBSCRIBE", id=0, destination="/queue/a", ack="client"),
            frame("SEND", "x", destination="/queue/a"),
        )
        data = b""
        start = trio.current_time()
        async for chunk in client.stream:
            data += chunk
        assert 60 <= trio.current_time() - start <= 180
        error = frames_of(data)[-1]
        assert error["message"] == "precondition_failed"
        assert error.body.endswith(b"Timeout value used: 60000 ms")
        await client.close()


async def test_permissions_hold_for_what_is_remembered() -> None:
    async with broker_in_process(StompAdapter) as server:
        users = server.broker.users
        users.add_user("somebody", "secret")
        users.set_permissions("somebody", "/", ".*", ".*", ".*")
        client = await StompClient.open(server, login="somebody", passcode="secret")
        send = frame("SEND", "x", destination="/queue/a")
        assert not await client.ask(send)
        users.set_permissions("somebody", "/", ".*", "", ".*")
        (error,) = await client.ask(send)
        assert error["message"] == "access_refused"
        assert error.body == (
            b"ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'somebody'"
        )
        assert server.broker.vhosts["/"].queues["a"].message_count == 1
        await client.close()


async def test_frames_without_an_answer_are_acknowledged_at_once() -> None:
    """Or a client with Nagle's algorithm would keep the next one until the kernel's delayed acknowledgement."""
    async with broker_in_process(StompAdapter) as server:
        ours, theirs = socket.socketpair()
        transport = KnownTransport(ours, None, None)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.adapter.serve, transport)
            for data, count in (
                (connect_frame(), 0),
                (frame("SEND", "x", destination="/queue/a", receipt=1), 0),
                (frame("SEND", "x", destination="/queue/a"), 1),
                (frame("SEND", "x" * 100_000, destination="/queue/a"), 1),
            ):
                await stream.send_all(data)
                await trio.testing.wait_all_tasks_blocked(0.005)
                assert transport.acknowledged >= count
                if not count:
                    transport.acknowledged = 0  # CONNECT itself has no answer before the login is checked
            await stream.aclose()
        transport.close()
