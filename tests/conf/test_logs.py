"""Log lines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.conf import logs
from leveret.conf.settings import Log


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # those of pytest are not ours to close
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines_of(tmp_path: Path, **settings: str) -> list[str]:
    file = tmp_path / "log"
    logs.configure(Log(file=str(file), **settings))
    log = logging.getLogger("leveret.x")
    log.debug("quiet")
    log.info("vhost=%s queue=%r", "/", "a\nb\x1b")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("conn=7\nfailed")
    return file.read_text().splitlines()


def test_text_is_one_event_a_line(tmp_path: Path) -> None:
    first, second, *traceback = lines_of(tmp_path)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info leveret\.x vhost=/ queue='a\\nb\\x1b'", first
    )
    assert second.endswith(r"error leveret.x conn=7\nfailed")
    assert traceback[-1] == "  ValueError: broken"
    assert all(line.startswith("  ") for line in traceback)


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    first, second = map(json.loads, lines_of(tmp_path, format="json"))
    assert (first["level"], first["logger"], first["message"]) == (
        "info",
        "leveret.x",
        "vhost=/ queue='a\\nb\\x1b'",
    )
    assert second["exception"].endswith("ValueError: broken")


def test_level_changes_at_run_time(tmp_path: Path) -> None:
    assert not any("quiet" in line for line in lines_of(tmp_path))
    logs.set_level("debug")
    logging.getLogger("leveret.x").debug("now")
    assert (tmp_path / "log").read_text().endswith("debug leveret.x now\n")


def test_unwritable_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(logs.LogFileError, match="cannot be written: No such file or directory"):
        logs.configure(Log(file=str(tmp_path / "no" / "log")))
