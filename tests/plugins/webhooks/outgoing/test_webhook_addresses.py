"""Where webhooks may not go: every way of writing a private address, at the moment of connecting."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Self

import pytest
import trio
import trio.testing

from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy, AddressRefused, is_host_name
from leveret.plugins.webhooks.outgoing.client import Connection
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.9",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
    "", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1",
]  # fmt: skip
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy().check(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    AddressPolicy().check(address)


def test_what_the_operator_allows() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "fd00:1::/32"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5"):
        policy.check(address)
    for address in ("10.2.0.1", "127.0.0.1", "fd00:2::5"):
        with pytest.raises(AddressRefused):
            policy.check(address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("example.com", True), ("a", True), ("a_b.example", True), ("example.com.", True), ("xn--mnchen-3ya.de", True),
     ("1e100.net", True), ("3com.com", True), ("127.1", False), ("0x7f.1", False), ("2130706433", False),
     ("0177.0.0.01", False), ("0x7f000001", False), ("", False), ("-a.com", False), ("a..b", False),
     ("a b", False), ("a" * 64 + ".com", False)],
)  # fmt: skip
def test_names_and_numbers(host: str, expected: bool) -> None:
    assert is_host_name(host) is expected


# -- at the moment of connecting


class Listening:
    """A socket that counts who connects."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def accepted(self) -> int:
        count = 0
        while True:
            try:
                self.socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


async def request(connector: Connector, url: str) -> None:
    connection = Connection(connector, Target.of(url))
    try:
        await connection.request("POST", [], b"", timeout_s=2, snippet_bytes=0)
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
async def test_literal_addresses_are_checked(host: str) -> None:
    with Listening() as listening:
        with pytest.raises(RequestFailed) as error:
            await request(Connector(AddressPolicy()), f"http://{host}:{listening.port}/")
        assert error.value.reason == "address-refused"
        assert listening.accepted() == 0


async def test_the_systems_own_names_are_checked() -> None:
    with Listening() as listening:
        with pytest.raises(RequestFailed) as error:
            await request(Connector(AddressPolicy()), f"http://localhost:{listening.port}/")
        assert error.value.reason == "address-refused"
        assert listening.accepted() == 0


async def test_rebinding_gains_nothing() -> None:
    """The name is public at one look and private at the next: each connection is to an address that was checked."""
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    looked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked.append(host)
        await trio.lowlevel.checkpoint()
        return answers[len(looked) - 1]

    with Listening() as listening:
        policy = AddressPolicy()
        for address in answers[0]:
            policy.check(address)  # what a check of its own before the request would have seen
        looked.append("check")
        with pytest.raises(RequestFailed) as error:
            await request(Connector(policy, resolve=resolve), f"http://rebind.example:{listening.port}/")
        assert error.value.reason == "address-refused"
        assert looked == [
            "check",
            "rebind.example",
        ]  # resolved once for the connection, and never again behind the check
        assert listening.accepted() == 0


async def test_private_addresses_among_public_ones_are_passed_over() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ["10.0.0.1", "169.254.169.254", "127.0.0.1"]

    with Listening() as listening:
        connector = Connector(AddressPolicy(["127.0.0.1/32"]), resolve=resolve)
        with pytest.raises(RequestFailed) as error:  # it connects, and gets no answer
            await request(connector, f"http://many.example:{listening.port}/")
        assert error.value.reason == "timeout"
        assert listening.accepted() == 1


async def test_a_slow_name_is_looked_up_once_for_all_who_wait() -> None:
    looked = 0
    go_on = trio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        nonlocal looked
        looked += 1
        await go_on.wait()
        return ["127.0.0.1"]

    async def connect(connector: Connector, scope: trio.CancelScope) -> None:
        with scope, pytest.raises(RequestFailed):
            await request(connector, f"http://slow.example:{listening.port}/")

    with Listening() as listening:
        connector = Connector(AddressPolicy(), resolve=resolve)
        scopes = [trio.CancelScope() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(connect, connector, scope)
            await trio.testing.wait_all_tasks_blocked()
            assert looked == 1
            scopes[0].cancel()  # perhaps the one that looks: then another does
            await trio.testing.wait_all_tasks_blocked()
            assert looked <= 2
            go_on.set()
        assert looked <= 2


async def test_a_name_that_does_not_exist() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(RequestFailed) as error:
        await request(Connector(AddressPolicy(), resolve=resolve), "http://none.example/")
    assert error.value.reason == "dns"


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.com/", "http:///x", "http://user:secret@example.com/", "http://example.com/#x",
     "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://exa mple.com/",
     "http://example.com:0/", "http://example.com:99999/", "http://example.com/\r\nX: y", "http://ex\u00e4mple.com/",
     "http://[::1/", "//example.com/", "http://example.com:x/"],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        Target.of(url)
    assert "secret" not in str(error.value)


def test_good_urls() -> None:
    assert Target.of("https://example.com/a?b=c") == Target("https", "example.com", 443, "/a?b=c")
    target = Target.of("http://[2606:4700::1111]:8080")
    assert (target.host, target.port, target.path) == ("2606:4700::1111", 8080, "/")
    assert target.authority == "[2606:4700::1111]:8080"
    assert Target.of("HTTPS://Example.com").authority == "example.com"
