"""Where the control socket is: in the data directory, or in a runtime directory if that path is too long for a socket.

A socket elsewhere is found through a pointer, a text file in the data directory with its path.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AddressError", "ControlAddress", "bind", "find", "place"]

SOCKET_NAME = "control.sock"
POINTER_NAME = "control.path"  # a text file with the path of the socket
MAX_PATH_BYTES = 107 if sys.platform == "linux" else 103  # sizeof(sun_path), less the NUL
PROBE_TIMEOUT_S = 1.0


class AddressError(Exception):
    """The socket cannot be opened at its place; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """The path of the socket. pointer: the file that names it, if it is not in the data directory."""

    path: Path
    pointer: Path | None = None


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def place(data_dir: Path, override: str = "") -> ControlAddress:
    """Choose the path of a server's socket. override: the configured path, or "". Raise AddressError."""
    if override:
        path = Path(override).expanduser().absolute()
        if not _fits(path):
            raise AddressError(f"the control socket's path is longer than {MAX_PATH_BYTES} bytes: {path}")
        return ControlAddress(path)
    path = data_dir / SOCKET_NAME
    if _fits(path):
        return ControlAddress(path)
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16] + ".sock"
    for folder in _runtime_folders():
        if _fits(folder / name):
            return ControlAddress(folder / name, data_dir / POINTER_NAME)
    raise AddressError(f"no directory has a path that is short enough for a control socket; tried for {path}")


def _runtime_folders() -> list[Path]:
    uid = os.getuid()
    roots = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]
    return [Path(root) / f"leveret-{uid}" for root in roots if root and Path(root).is_dir()]


def find(data_dir: Path, override: str = "") -> Path:
    """Return the path of the socket of the server with this data directory, whether or not it is running."""
    if override:
        return Path(override).expanduser().absolute()
    try:
        return Path((data_dir / POINTER_NAME).read_text(encoding="utf-8"))
    except OSError:  # the usual case: there is no pointer
        return data_dir / SOCKET_NAME


def bind(address: ControlAddress) -> socket.socket:
    """Return a listening, non-blocking socket that only this user may connect to. Raise AddressError.

    A socket that a killed server left behind is replaced. A socket that answers, and a file of another kind, are not.
    """
    path = address.path
    if address.pointer is not None:
        _own_folder(path.parent)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # before listen, so that no other user can connect
        listener.listen(16)
        listener.setblocking(False)
        if address.pointer is None:
            (path.parent / POINTER_NAME).unlink(missing_ok=True)  # of a directory that was moved here
        else:
            address.pointer.write_text(str(path), encoding="utf-8")
    except OSError as error:
        listener.close()
        raise AddressError(f"the control socket {path} cannot be opened: {error.strerror}") from error
    return listener


def _own_folder(folder: Path) -> None:
    """Create the directory in a place where others may write, and check that only this user may enter it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise AddressError(
            f"the control socket's directory {folder} cannot be made: {error.strerror}"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise AddressError(f"{folder} is not a directory that only this user may enter")


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressError(f"the control socket cannot be opened: {path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # a killed server left it
            return
        except OSError as error:
            raise AddressError(f"the control socket {path} cannot be replaced: {error}") from error
    raise AddressError(f"another server answers at the control socket {path}")
