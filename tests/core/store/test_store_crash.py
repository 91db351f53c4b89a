"""Killed with SIGKILL at any moment: what was said to be durable is there, and nothing is lost on the way between logs."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import crash_child
from support.crash_child import Settings, body

from leveret.core.store.base import Log
from leveret.core.store.lmdb.store import LmdbStore

CHILD = Path(crash_child.__file__)


def positions(log: Log) -> list[int]:
    found: list[int] = []
    start = 0
    while part := log.read(start, 1000, 1 << 30):
        assert all(message.body == body(message.position) for message in part)
        assert all(message.is_redelivered for message in part)
        found += [message.position for message in part]
        start = found[-1] + 1
    assert log.count == len(found)
    assert log.bytes == sum([len(body(position)) for position in found])
    assert found == sorted(set(found))
    return found


def check(path: Path, lines: list[bytes]) -> None:
    said = {"S": (1, 1), "C": (1, 1)}
    for line in lines:
        kind, new, moved = line.decode().split()
        said[kind] = (max(said[kind][0], int(new)), max(said[kind][1], int(moved)))
    store = LmdbStore(path, Settings("flush"))
    store.open()
    try:
        assert not store.was_clean
        ids = dict(store.definitions())
        if not ids:
            assert said["C"] == (1, 1)
            return
        source, target = [store.open_log(int(log_id)) for log_id in ids[b"logs"].split()]
        here, there = positions(source), positions(target)
        assert not here or here == list(range(here[0], here[-1] + 1))
        assert {*here, *there} >= set(range(1, said["C"][0]))  # nothing that is durable is lost
        assert {*here, *there} <= set(range(1, said["S"][0]))
        assert not here or here[0] >= said["C"][1]  # nor comes back
        assert set(there) <= set(range(1, said["S"][1]))
    finally:
        store.abandon()  # so that the next round begins after a crash, too


@pytest.mark.parametrize("durability", ["flush", "os"])
@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
def test_killed(tmp_path: Path, durability: str, rounds: int) -> None:
    rng = random.Random(f"{durability} {rounds}")
    lines: list[bytes] = []
    for number in range(rounds):
        if number % 8 == 0:
            path, lines = tmp_path / str(number), []
        arguments = [sys.executable, str(CHILD), str(path), durability, str(number)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(rng.randint(1, 200)):
                line = child.stdout.readline()
                assert line, "the child ended by itself"
                lines.append(line)
            child.kill()
            rest = child.stdout.read().split(b"\n")
            lines += rest[:-1]
        check(path, lines)
