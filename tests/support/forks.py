"""Programs of Leveret as forks of one process that has imported everything: a server starts in a tenth of the time.

Hundreds of servers and commands are started by the tests, and all but a little of that time goes into importing the
same modules. What runs is the same program: a process of its own, with its own environment, files and signals.
LEVERET_TEST_EXEC=1 makes each start a fresh interpreter again; so does any variable of Python's in its environment, and
any system but Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["Fork", "Program", "run", "start"]

REQUEST_SIZE = 1 << 18
WORD = b"%16d"
"""How a process id and an exit code are told."""


class Fork:
    """A forked program: of `subprocess.Popen` what the tests use, text streams included."""

    def __init__(self, pid: int, status: int, stdout: IO[str], stderr: IO[str]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._status = status

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative: the signal. Raise subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["leveret"], timeout or 0.0)
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program = Fork | subprocess.Popen[str]


class Origin:
    """This process's end of the one that forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Fork:
        status, their_status = os.pipe()
        stdout, their_stdout = os.pipe()
        stderr, their_stderr = os.pipe()
        theirs = [their_stdout, their_stderr, their_status]
        request = json.dumps([list(arguments), dict(environment), str(Path.cwd())]).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [request], theirs)
        finally:
            for each in theirs:
                os.close(each)
        pid = os.read(status, 16)
        assert pid, "the process that forks is gone"
        return Fork(int(pid), status, open(stdout), open(stderr))

    def close(self) -> None:
        self._control.close()
        self._process.wait()


origin = functools.cache(Origin)


def start(arguments: Sequence[str], environment: Mapping[str, str], *, fresh: bool = False) -> Program:
    """`leveret` with these arguments and exactly this environment. fresh: as an interpreter of its own."""
    python = {key: value for key, value in environment.items() if key.startswith("PYTHON")}
    ours = {key: value for key, value in os.environ.items() if key.startswith("PYTHON")}
    is_asked_for = fresh or bool(os.environ.get("LEVERET_TEST_EXEC"))
    if sys.platform == "linux" and not is_asked_for and python == ours:
        return origin().fork(arguments, environment)
    return subprocess.Popen(
        [sys.executable, "-m", "leveret", *arguments], env=dict(environment),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(arguments: Sequence[str], timeout: float) -> tuple[int, str, str]:
    """`leveret` with these arguments to its end: exit code, standard output, standard error. Killed when it is late."""
    process = start(arguments, os.environ)
    stdout, stderr = process.stdout, process.stderr
    assert stdout is not None
    assert stderr is not None
    late = threading.Timer(timeout, process.kill)
    late.start()
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(stderr.read()))
    with stdout, stderr:
        reader.start()
        output = stdout.read()
        reader.join()
    try:
        return process.wait(timeout), output, errors[0]
    finally:
        late.cancel()


# In the process that forks, and in the forks


def _forked(control: socket.socket) -> list[str] | None:
    """Fork at each request. Returns in the forks, with their arguments; and in the origin, None, when it is to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        request, theirs, _, _ = socket.recv_fds(control, REQUEST_SIZE, 3)
        if not request:
            return None
        if os.fork() == 0:
            return _kept(request, theirs)
        for each in theirs:
            os.close(each)


def _kept(request: bytes, theirs: list[int]) -> list[str]:
    """Fork once more: the first tells how the second ends. Returns in the second."""
    stdout, stderr, status = theirs
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        for each in (stdout, stderr):
            os.close(each)
        os.write(status, WORD % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, WORD % code)
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 256)
    arguments: list[str]
    arguments, environment, directory = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    random.seed()
    return arguments


def _import_all() -> None:
    import leveret

    for module in pkgutil.walk_packages(leveret.__path__, "leveret."):
        importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # so that collections in the forks, at their ends above all, do not touch and copy all of this


if __name__ == "__main__":
    _import_all()
    mine = socket.socket(fileno=int(sys.argv[1]))
    asked = _forked(mine)
    if asked is not None:
        mine.detach()  # closed already
        sys.argv[1:] = asked
        sys.modules["leveret.__main__"].main()
