"""Where the control socket is."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.adapters.control import address
from leveret.adapters.control.address import AddressError


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory whose path is too long for a socket, and a runtime directory whose path is short."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield folder


def test_socket_is_in_the_data_directory_and_only_ours(tmp_path: Path) -> None:
    place = address.place(tmp_path)
    with address.bind(place):
        assert place.path == address.find(tmp_path) == tmp_path / "control.sock"
        assert stat.S_IMODE(place.path.stat().st_mode) == 0o600


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    place = address.place(tmp_path)
    address.bind(place).close()  # as a killed server does: the file stays
    assert place.path.exists()
    with address.bind(place) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(place.path))
        listener.accept()[0].close()


def test_socket_that_answers_is_not_replaced(tmp_path: Path) -> None:
    place = address.place(tmp_path)
    with address.bind(place), pytest.raises(AddressError, match="another server answers"):
        address.bind(place)


def test_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    place = address.place(tmp_path)
    place.path.write_text("precious")
    with pytest.raises(AddressError, match="is not a socket"):
        address.bind(place)
    assert place.path.read_text() == "precious"


def test_long_path_goes_behind_a_pointer(deep: Path) -> None:
    place = address.place(deep)
    assert len(os.fsencode(place.path)) <= address.MAX_PATH_BYTES
    with address.bind(place):
        assert address.find(deep) == place.path
        assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700


def test_runtime_directory_must_be_ours_alone(deep: Path) -> None:
    place = address.place(deep)
    place.path.parent.mkdir(mode=0o777)
    place.path.parent.chmod(0o777)
    with pytest.raises(AddressError, match="only this user may enter"):
        address.bind(place)
    place.path.parent.rmdir()
    place.path.parent.symlink_to(deep)
    with pytest.raises(AddressError, match="only this user may enter"):
        address.bind(place)


def test_pointer_of_a_directory_that_moved_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "control.path").write_text("/elsewhere.sock")
    with address.bind(address.place(tmp_path)):
        assert address.find(tmp_path) == tmp_path / "control.sock"


def test_override_is_taken_or_refused(tmp_path: Path) -> None:
    assert (
        address.place(tmp_path, "/run/x.sock").path
        == address.find(tmp_path, "/run/x.sock")
        == Path("/run/x.sock")
    )
    with pytest.raises(AddressError, match="longer than"):
        address.place(tmp_path, "/" + "x" * 200)


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="cannot be opened: No such file or directory"):
        address.bind(address.place(tmp_path / "missing"))
