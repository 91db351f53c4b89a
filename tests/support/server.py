"""Leveret as a process of its own for end-to-end tests; or the broker it is compared with.

With LEVERET_TEST_REFERENCE=amqp://guest:guest@127.0.0.1:PORT/ the shared server is that one, so that the tests themselves
can be checked against RabbitMQ; LEVERET_TEST_REFERENCE_CTL is the command that administers it
(`rabbitmqctl -n name@localhost`). Tests that start, stop or configure servers of their own are skipped then.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import pytest
from support import forks
from support.amqp_peer import Peer

__all__ = [
    "REFERENCE",
    "LeveretServer",
    "ReferenceServer",
    "Server",
    "own_server_only",
    "poll",
    "reference_differs",
]

REFERENCE = os.environ.get("LEVERET_TEST_REFERENCE", "")
T = TypeVar("T")

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
CTL_TIMEOUT_S = 30.0
FAST = {"LEVERET_AMQP_LOGIN_FAILURE_DELAY_S": "0.1"}
"""Settings of every server here, as environment: what would only make the tests wait."""


def reference_differs(why: str) -> pytest.MarkDecorator:
    """The test states what RabbitMQ 4.x does; the older reference must fail it. "3.10: ..." says how it differs."""
    return pytest.mark.xfail(bool(REFERENCE), reason=why)


def own_server_only(why: str) -> pytest.MarkDecorator:
    """The test needs to configure or restart the server, or a feature that the reference at hand lacks."""
    return pytest.mark.skipif(bool(REFERENCE), reason=why)


def poll(probe: Callable[[], T | None], what: str, timeout: float = 10.0) -> T:
    """Call `probe` until it gives something true, and return that; fail at the deadline with the last answer."""
    deadline = time.monotonic() + timeout
    pause = 0.0005  # most answers change at once, and thousands of tests ask
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{what}: still {answer!r} after {timeout} s"
        time.sleep(pause)
        pause = min(pause * 2, 0.01)
    return answer


# Every listener on any free port: tests run beside each other, and beside a broker of this machine.
DOORS = [
    part
    for listener in ("amqp", "mqtt", "stomp", "http", "web-stomp", "web-mqtt")
    for part in (f"--{listener}", "0")
] + ["--prometheus", "off"]


class Server:
    """What both kinds have: a port to connect to, and a command to administer with."""

    port: int

    def peer(self, **login: Any) -> Peer:
        """A logged-in connection with channel 1 open."""
        return Peer.open(self.port, **login)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def run_ctl(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        raise NotImplementedError

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """Run an administration command; returns its standard output."""
        code, output, errors = self.run_ctl(*arguments)
        if check:
            assert code == 0, f"ctl {arguments}: {output}{errors}"
        return output

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """The answer of a list command."""
        rows: list[dict[str, Any]] = json.loads(self.ctl(*arguments, "--formatter", "json"))
        return rows


class ReferenceServer(Server):
    def __init__(self) -> None:
        parts = urlsplit(REFERENCE)
        assert parts.port is not None, f"LEVERET_TEST_REFERENCE={REFERENCE} names no port"
        self.port = parts.port

    def run_ctl(self, *arguments: str) -> tuple[int, str, str]:
        command = os.environ.get("LEVERET_TEST_REFERENCE_CTL")
        if not command:
            pytest.skip("LEVERET_TEST_REFERENCE_CTL is not set")
        done = subprocess.run(
            [*shlex.split(command), "--quiet", *arguments],
            capture_output=True, text=True, timeout=CTL_TIMEOUT_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


class LeveretServer(Server):
    """`leveret serve` as a process. Use as a context manager; `kill` and `start` in between are allowed.

    fresh: an interpreter of its own, and not a fork (see support/forks.py).
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        fresh: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.settings = FAST | dict(settings or {})
        self.arguments = list(arguments)
        self.fresh = fresh
        self.ports: dict[str, int] = {}
        self._process: forks.Program | None = None
        self._errors: list[str] = []
        self._reader: threading.Thread | None = None

    def start(self) -> Self:
        """Returns when the ready line has come; fails with what the server wrote otherwise."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LEVERET_")} | self.settings
        process = self._process = forks.start(
            ["serve", "--data-dir", str(self.data_dir), "--bind", "127.0.0.1", *DOORS, *self.arguments],
            environment,
            fresh=self.fresh,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._reader = threading.Thread(target=self._errors.extend, args=(process.stderr,), daemon=True)
        self._reader.start()
        late = threading.Timer(START_TIMEOUT_S, process.kill)
        late.start()
        try:
            ready = process.stdout.readline()
        finally:
            late.cancel()
        match = re.match(r"leveret ready: (.*) data=", ready)
        if match is None:
            self.kill()
            raise AssertionError(f"the server did not start; it said {ready!r} and {self.errors}")
        self.ports = {name: int(port) for name, port in re.findall(r"([\w-]+)=[^ ]*?:(\d+)", match[1])}
        self.port = self.ports["amqp"]
        return self

    @property
    def process(self) -> forks.Program:
        assert self._process is not None, "not started"
        return self._process

    @property
    def errors(self) -> str:
        """What the server has written to standard error so far, over all its starts."""
        return "".join(self._errors)

    def open_files(self) -> list[str]:
        """What the server's file descriptors are, by their links."""
        files = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                files.append(str(link.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
        return files

    def ctl_command(self) -> list[str]:
        """For what must be a program of its own."""
        return [sys.executable, "-m", "leveret", "ctl", "--data-dir", str(self.data_dir)]

    def run_ctl(self, *arguments: str) -> tuple[int, str, str]:
        return forks.run(["ctl", "--data-dir", str(self.data_dir), *arguments], CTL_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM; returns the exit code, and fails if it has to be killed."""
        if self._process is None:
            return 0
        process = self._process
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM did not stop the server: {self.errors}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing gets a chance to be saved."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.kill()
