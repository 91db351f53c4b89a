"""The control listener, with a broker that is none."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from leveret.adapters.cli import client
from leveret.adapters.control.server import ControlServer, OperationRefused
from leveret.core.errors import InvalidArgument, NotFound


class Broker(SimpleNamespace):
    """What the listener touches of a broker."""

    asked: trio.Event

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.pumped = 0
        super().__init__(
            timers=SimpleNamespace(tick=lambda: None),
            dispatcher=SimpleNamespace(run=self.count),
            store=SimpleNamespace(after_commit=lambda callback: True),
        )

    def count(self) -> None:
        self.pumped += 1

    def hold(self) -> None:
        """From now on, nothing is durable before `waiting` is called."""

        def after_commit(callback: Callable[[], None]) -> bool:
            self.waiting.append(callback)
            self.asked.set()
            return False

        self.asked = trio.Event()
        self.store.after_commit = after_commit


def join(broker: Broker, left: str, right: str = "-", count: int = 1) -> str:
    return (left + right) * count


async def slow(broker: Broker, names: list[str]) -> list[str]:
    await trio.lowlevel.checkpoint()
    return names


def missing(broker: Broker) -> None:
    raise NotFound("no queue 'q' in vhost '/'")


def invalid(broker: Broker) -> None:
    raise InvalidArgument("bad")


def refused(broker: Broker) -> None:
    raise OperationRefused("no", "exists")


def broken(broker: Broker) -> None:
    raise ZeroDivisionError("secret")


OPERATIONS = {
    "join": join,
    "slow": slow,
    "missing": missing,
    "invalid": invalid,
    "refused": refused,
    "broken": broken,
}


@asynccontextmanager
async def listener(tmp_path: Path, broker: Broker | None = None) -> AsyncIterator[Path]:
    server = ControlServer(broker or Broker(), OPERATIONS, tmp_path)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server.address.path
        nursery.cancel_scope.cancel()


async def ask(path: Path, command: str, **arguments: Any) -> Any:
    return await trio.to_thread.run_sync(lambda: client.call(path, command, arguments, 5))


async def test_answers_commands(tmp_path: Path) -> None:
    broker = Broker()
    async with listener(tmp_path, broker) as path:
        assert await ask(path, "join", left="a", right="b") == "ab"
        assert await ask(path, "slow", names=["a", "ü"]) == ["a", "ü"]
    assert broker.pumped == 2
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "arguments", "reason", "text"),
    [
        ("nothing", {}, "usage", "there is no command nothing"),
        ("join", {}, "usage", "join: missing a required argument: 'left'"),
        ("join", {"left": "a", "middle": "b"}, "usage", "join: got an unexpected keyword argument 'middle'"),
        ("join", {"left": 1}, "usage", "join: left must be str, not 1"),
        ("join", {"left": "a", "count": True}, "usage", "join: count must be int, not True"),
        ("slow", {"names": [1]}, "usage", "slow: names must be a list of strings"),
        ("missing", {}, "not_found", "no queue 'q' in vhost '/'"),
        ("invalid", {}, "invalid", "bad"),
        ("refused", {}, "exists", "no"),
    ],
)
async def test_refusals_say_why(tmp_path: Path, command: str, arguments: Any, reason: str, text: str) -> None:
    async with listener(tmp_path) as path:
        with pytest.raises(client.Refused) as caught:
            await ask(path, command, **arguments)
    assert (caught.value.reason, str(caught.value)) == (reason, text)


async def test_our_bug_is_logged_and_the_door_stays_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listener(tmp_path) as path:
        with pytest.raises(client.Refused, match=r"internal error: ZeroDivisionError$") as caught:
            await ask(path, "broken")
        assert caught.value.reason == "internal"
        assert await ask(path, "join", left="a") == "a-"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_several_requests_on_one_connection_in_any_pieces(tmp_path: Path) -> None:
    line = json.dumps({"command": "join", "arguments": {"left": "x"}}).encode() + b"\n"
    async with listener(tmp_path) as path, await trio.open_unix_socket(os.fspath(path)) as stream:
        for byte in line:
            await stream.send_all(bytes([byte]))
        await stream.send_all(line * 2)
        answers = b""
        while answers.count(b"\n") < 3:
            answers += bytes(await stream.receive_some())
    assert answers == b'{"ok": "x-"}\n' * 3


@pytest.mark.parametrize(
    "junk",
    [
        b"junk\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xff\n",
        b'{"command": []}\n',
        b'{"command": "join", "arguments": []}\n',
    ],
)
async def test_junk_is_answered(tmp_path: Path, junk: bytes) -> None:
    async with listener(tmp_path) as path, await trio.open_unix_socket(os.fspath(path)) as stream:
        await stream.send_all(junk)
        answer = json.loads(await stream.receive_some())
    assert answer["reason"] == "usage"


async def test_a_change_is_answered_when_it_is_durable(tmp_path: Path) -> None:
    broker = Broker()
    broker.hold()
    answers = []
    async with listener(tmp_path, broker) as path, trio.open_nursery() as nursery:

        async def change() -> None:
            answers.append(await ask(path, "join", left="a"))

        nursery.start_soon(change)
        await broker.asked.wait()
        assert not answers
        broker.waiting[0]()
    assert answers == ["a-"]


async def test_disk_that_does_not_take_it_is_reported(autojump_clock: Any) -> None:
    broker = Broker()
    broker.hold()
    server = ControlServer(broker, OPERATIONS, Path("/nowhere"))  # type: ignore[arg-type]
    answer = await server.answer(b'{"command": "join", "arguments": {"left": "a"}}')
    assert answer["reason"] == "unavailable"


def test_client_says_that_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(client.Unavailable, match="no leveret server is running"):
        client.call(tmp_path / "control.sock", "ping", {})


async def test_operations_come_and_go_while_the_server_runs(tmp_path: Path) -> None:
    operations = dict(OPERATIONS)
    server = ControlServer(Broker(), operations, tmp_path)  # type: ignore[arg-type]
    line = json.dumps({"command": "more", "arguments": {"left": "x"}}).encode()
    assert (await server.answer(line))["reason"] == "usage"
    operations["more"] = join
    assert await server.answer(line) == {"ok": "x-"}
    del operations["more"]
    assert (await server.answer(line))["reason"] == "usage"
