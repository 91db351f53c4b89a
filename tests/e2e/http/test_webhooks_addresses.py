"""Webhooks go to allowed addresses only, decided for each connection at the moment of connecting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hook_receiver import HookReceiver
from support.hooks_api import HooksApi, publish
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target

Start = Callable[..., LeveretServer]


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, list[Any]]]:
    """On every address of this machine; who has connected."""
    seen: list[Any] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:

        def accept() -> None:
            while True:
                try:
                    peer, address = server.accept()
                except OSError:
                    return
                seen.append(address)
                peer.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server, seen
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_private_addresses_are_refused_by_the_real_server_whatever_they_are_called(
    server: Start, listening: tuple[socket.socket, list[Any]]
) -> None:
    one = server()
    api = HooksApi(one)
    port = listening[0].getsockname()[1]
    for host in (
        "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "10.1.2.3",
        "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1",
        "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::1]", "198.18.0.1",
        "255.255.255.255", "192.0.2.1", "[2001:db8::1]", "240.0.0.1",
    ):  # fmt: skip
        answer = api.hook("PUT", value={"url": f"http://{host}:{port}/", "exchange": "amq.topic"}, expect=400)
        assert "which webhooks may not reach" in answer["detail"] or "is not public" in answer["detail"], host
    for host in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1"):  # numbers that inet_aton takes
        answer = api.hook("PUT", value={"url": f"http://{host}:{port}/", "exchange": "amq.topic"}, expect=400)
        assert "neither a host name nor an address" in answer["detail"]
    # A name is nobody's until it is looked up: then each connect is checked.
    api.hook("PUT", value={
        "url": f"http://localhost:{port}/", "exchange": "amq.topic", "routing_key": "t.#", "retry": {"delays_s": [0.1]},
    }, expect=201)  # fmt: skip
    publish(one, b"x")
    attempts = poll(lambda: len(found := api.hook("GET", "/attempts")) == 2 and found, "attempts")
    assert {one["reason"] for one in attempts} == {"address-refused", "exhausted"}
    assert "which webhooks may not reach" in attempts[0]["error"]
    assert listening[1] == []


async def test_a_name_that_changes_its_address_gains_nothing(
    listening: tuple[socket.socket, list[Any]],
) -> None:
    """Looked up once per connection, and connected to the very address that was checked; the next one is checked again."""
    port = listening[0].getsockname()[1]
    answers = [["127.0.0.2"], ["10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    connector = Connector(AddressPolicy(["127.0.0.2/32"]), resolve=resolve)
    target = Target.of(f"http://rebinding.example:{port}/")
    for index, found in enumerate(answers):
        if found == ["127.0.0.2"]:
            stream = await connector.open(target)
            await stream.aclose()
        else:
            with pytest.raises(RequestFailed) as error:
                await connector.open(target)
            assert error.value.reason == "address-refused"
        assert len(asked) == index + 1, "one lookup for one connection"
    poll(lambda: len(listening[1]) == 2, "two connections")


def test_what_an_operator_allows_is_reached(start: Start) -> None:
    one = start()
    with HookReceiver() as receiver:
        HooksApi(one).put(receiver)
        publish(one, b"x")
        assert receiver.wait(1)[0].body == b"x"
        for host in ("10.0.0.1", "[::1]"):  # that and no more
            HooksApi(one).hook("PUT", value={"url": f"http://{host}/", "exchange": "amq.topic"}, expect=400)


def test_what_is_allowed_to_one_virtual_host_is_not_to_another(server: Start, tmp_path: Path) -> None:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nvhost_allowed_networks = {"inside" = ["127.0.0.0/8"]}\n')
    one = server(arguments=["--config", str(config)])
    api = HooksApi(one)
    assert api.call("PUT", "/api/vhosts/inside")[0] == 201
    with HookReceiver() as receiver:
        value = {"url": receiver.url, "exchange": "amq.topic", "routing_key": "#"}
        assert api.call("PUT", "/v1/webhooks/%2F/w", value)[0] == 400
        assert api.call("PUT", "/v1/webhooks/inside/w", value)[0] == 201
        assert api.call("POST", "/v1/webhooks/inside/w/test")[0] == 202
        assert receiver.wait(1)[0].headers["x-leveret-type"] == "webhook.test"
