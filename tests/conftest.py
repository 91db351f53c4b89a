"""Fixtures for tests that talk to a started server. See support/server.py for running them against another broker."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.amqp_peer import Peer
from support.audit import Audit
from support.server import REFERENCE, LeveretServer, ReferenceServer, Server

if TYPE_CHECKING:
    from selenium import webdriver


@pytest.fixture(scope="session", autouse=True)
def _bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where bytecode may not be written beside the sources, it is kept aside while the tests run.

    A server is hundreds of modules: one that compiles them all first takes half as long again to start.
    """
    with pytest.MonkeyPatch.context() as environment:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            environment.delenv("PYTHONDONTWRITEBYTECODE")
            environment.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


@pytest.fixture(scope="session")
def leveret_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    if REFERENCE:
        yield ReferenceServer()
        return
    with LeveretServer(tmp_path_factory.mktemp("shared") / "data", fresh=True) as server:
        yield server
        assert server.stop() == 0, server.errors


@pytest.fixture(scope="session")
def _audit(leveret_server: Server) -> Audit | None:
    return Audit(leveret_server) if isinstance(leveret_server, LeveretServer) else None


@pytest.fixture
def shared(leveret_server: Server, _audit: Audit | None) -> Iterator[Server]:
    """The shared server; after the test nothing of it may be left there."""
    yield leveret_server
    if _audit is not None:
        _audit.check()


@pytest.fixture
def connect(shared: Server) -> Iterator[Callable[..., Peer]]:
    """Opens logged-in peers with channel 1 open. Closes them, and deletes what they declared."""
    peers: list[Peer] = []

    def connect(**login: Any) -> Peer:
        peers.append(shared.peer(**login))
        return peers[-1]

    yield connect
    declared = set()
    for peer in peers:
        declared |= peer.declared
        peer.close()
    if declared:
        with shared.peer() as cleaner:
            for kind, name in sorted(declared, reverse=True):
                cleaner.send(1, f"{kind}.delete", **{kind: name})
                if cleaner.expect(1, f"{kind}.delete-ok", "channel.close").name == "channel.close":
                    cleaner.send(1, "channel.close-ok")  # exclusive, and gone in a moment
                    cleaner.open_channel(1)
            cleaner.goodbye()


@pytest.fixture
def peer(connect: Callable[..., Peer]) -> Peer:
    """A logged-in connection to the shared server, with channel 1 open."""
    return connect()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser."""
    from support.browser import chromium  # selenium, for the few that need it

    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., LeveretServer]]:
    """Starts servers of this test's own: `server(settings={"LEVERET_...": "1"}, arguments=[...], data_dir=...)`."""
    if REFERENCE:
        pytest.skip("this test starts servers of its own")
    with contextlib.ExitStack() as stack:
        count = 0

        def start(data_dir: Path | None = None, **options: Any) -> LeveretServer:
            nonlocal count
            count += 1
            return stack.enter_context(LeveretServer(data_dir or tmp_path / f"data{count}", **options))

        yield start
