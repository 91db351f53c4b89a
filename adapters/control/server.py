"""The control listener: JSON objects, one a line, on a Unix socket that only the server's own user can connect to.

    {"command": "add_vhost", "arguments": {"name": "v"}}  ->  {"ok": null}
                                                         or  {"error": "one sentence", "reason": "not_found"}

Each command is an operation of a table (operations.py), called with the broker and the arguments, which are checked against
the annotations of its signature. A change is answered after it is durable. The table is looked up for every request, so
that operations can be added to it and removed while the server runs.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from leveret.adapters.control import address
from leveret.auth.internal import AuthDataError, NoSuchUser, UserExists
from leveret.core.errors import BrokerError, InternalError, InvalidArgument, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["REASONS", "ControlServer", "Operation", "OperationRefused", "check_arguments"]

log = logging.getLogger(__name__)

Operation = Callable[..., Any]
"""`operation(broker, **arguments)`, synchronous or asynchronous. Arguments and result are values of JSON."""

MAX_REQUEST_BYTES = 64 << 20  # definitions of a large broker
MAX_CONNECTIONS = 64  # more wait to be accepted
IDLE_TIMEOUT_S = 60.0
COMMIT_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 5.0  # also during the shutdown, for the answer to "stop"

REASONS = ("usage", "no_user", "not_found", "exists", "invalid", "refused", "unavailable", "internal")
"""Why a command was refused, in a word for programs. The client has an exit status for each."""


class OperationRefused(Exception):
    """A refusal with a reason of its own, where no error class of core says it: one sentence, and one of REASONS."""

    def __init__(self, text: str, reason: str = "refused") -> None:
        super().__init__(text)
        self.reason = reason


def _reason_of(error: BrokerError | AuthDataError) -> str:
    match error:
        case NoSuchUser():
            return "no_user"
        case UserExists():
            return "exists"
        case AuthDataError():
            return "invalid"
        case NotFound():
            return "not_found"
        case InvalidArgument():
            return "invalid"
        case StoreUnavailable():
            return "unavailable"
        case InternalError():
            return "internal"
    return "refused"


class ControlServer:
    """The control listener of one broker.

    operations: what it can be asked, by name; read at each request. override: the path of the socket; empty: in the data
    directory, or in a runtime directory if that path is too long. Raise AddressError.
    """

    def __init__(
        self, broker: Broker, operations: Mapping[str, Operation], data_dir: Path, override: str = ""
    ) -> None:
        self.broker = broker
        self.operations = operations
        self.address = address.place(data_dir, override)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Raise AddressError before it has started."""
        listener = address.bind(self.address)
        ours = os.stat(self.address.path).st_ino
        limit = trio.Semaphore(MAX_CONNECTIONS)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                trio_listener = trio.socket.from_stdlib_socket(listener)
                while True:
                    await limit.acquire()
                    connection, _ = await trio_listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(connection), limit)
        finally:
            listener.close()
            try:
                if os.stat(self.address.path).st_ino == ours:
                    os.unlink(self.address.path)
            except FileNotFoundError:
                pass

    async def _serve(self, stream: trio.SocketStream, limit: trio.Semaphore) -> None:
        try:
            async with stream:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                await self._answer_all(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left before its answer, which changes nothing
        except Exception:
            log.exception("a connection of the control listener failed")
        finally:
            limit.release()

    async def _answer_all(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()
        while True:
            with trio.move_on_after(IDLE_TIMEOUT_S) as idle:
                chunk = await stream.receive_some()
            if idle.cancelled_caught or not chunk:
                return
            searched = len(buffer)
            buffer += chunk
            while (end := buffer.find(b"\n", searched)) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                searched = 0
                await self._send(stream, await self.answer(line))
            if len(buffer) > MAX_REQUEST_BYTES:
                error = f"a request is longer than {MAX_REQUEST_BYTES} bytes"
                await self._send(stream, {"error": error, "reason": "usage"})
                return

    async def _send(self, stream: trio.SocketStream, answer: dict[str, Any]) -> None:
        with trio.move_on_after(SEND_TIMEOUT_S, shield=True):
            await stream.send_all(json.dumps(answer).encode() + b"\n")

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Perform one request, and return its answer when its changes are durable."""
        try:
            request: Any = json.loads(line)
            if not isinstance(request, dict):
                raise TypeError("a request is an object with a command and its arguments")
            name, arguments = request["command"], request.get("arguments", {})
            operation = self.operations[name]
            check_arguments(name, operation, arguments)
        except KeyError as error:
            return {"error": f"there is no command {error.args[0]}", "reason": "usage"}
        except (ValueError, TypeError, AttributeError) as error:
            return {"error": str(error), "reason": "usage"}
        broker = self.broker
        broker.timers.tick()
        try:
            result = operation(broker, **arguments)
            if inspect.isawaitable(result):
                result = await result
        except OperationRefused as refusal:
            return {"error": str(refusal), "reason": refusal.reason}
        except (BrokerError, AuthDataError) as error:
            return {"error": str(error), "reason": _reason_of(error)}
        except Exception as error:
            log.exception("command=%s failed", name)
            return {
                "error": f"the server met an internal error: {type(error).__name__}",
                "reason": "internal",
            }
        finally:
            broker.dispatcher.run()
        committed = trio.Event()
        if not broker.store.after_commit(committed.set):
            # Shielded: a shutdown flushes the store before it cancels this task, and the client gets its answer.
            with trio.move_on_after(COMMIT_TIMEOUT_S, shield=True) as waiting:
                await committed.wait()
            if waiting.cancelled_caught:
                text = f"done, but the disk has not taken it within {COMMIT_TIMEOUT_S:g} seconds"
                return {"error": text, "reason": "unavailable"}
        return {"ok": result}


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "list[str]": (list,),
    "dict[str, Any]": (dict,),
    "str | None": (str, type(None)),
}


def check_arguments(name: str, operation: Operation, arguments: dict[str, Any]) -> None:
    """Raise TypeError, with a sentence, unless the arguments fit the annotations of the operation's signature."""
    signature = inspect.signature(operation)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    for argument, value in arguments.items():
        annotation = signature.parameters[argument].annotation
        if not isinstance(value, _TYPES[annotation]) or (annotation == "int" and isinstance(value, bool)):
            raise TypeError(f"{name}: {argument} must be {annotation}, not {value!r}")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise TypeError(f"{name}: {argument} must be a list of strings")
