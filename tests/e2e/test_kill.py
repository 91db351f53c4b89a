"""SIGKILL at any moment: nothing confirmed is lost, nothing comes twice unmarked, order and definitions hold."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from e2e.kill_actors import ACTORS, MOVES, QUEUES, Actor, Topology, declare_all, read_queue
from e2e.kill_ledger import Ledger
from support.server import LeveretServer

LATEST_S = 0.8
"""Each kill comes at random between 0 and this, counted from the start of the clients."""

DEFINITIONS: dict[str, tuple[str, ...]] = {
    "list_vhosts": ("name",),
    "list_users": (),
    "list_permissions": ("-p", "/"),
    "list_policies": ("-p", "/"),
    "list_exchanges": ("name", "type", "durable", "auto_delete", "internal", "arguments"),
    "list_queues": ("name", "durable", "auto_delete", "arguments"),
    "list_bindings": (),
}


def definitions(server: LeveretServer) -> dict[str, list[dict[str, Any]]]:
    """Everything that was declared, but for what the declaring actor makes."""
    return {
        verb: sorted(
            (row for row in server.rows(verb, *options) if "kill.made." not in str(row)),
            key=lambda row: str(row),
        )
        for verb, options in DEFINITIONS.items()
    }


def made_queues(server: LeveretServer) -> set[str]:
    names = {row["name"] for row in server.rows("list_queues", "name")}
    return {name for name in names if name.startswith("kill.made.")}


def check_topology(server: LeveretServer, topology: Topology, ledger: Ledger) -> None:
    made = made_queues(server)
    if missing := topology.present - made:
        ledger.problem(f"queues that were declared are gone: {missing}")
    if undead := topology.absent & made:
        ledger.problem(f"queues that were deleted are back: {undead}")
    topology.present = made


def verify(server: LeveretServer, ledger: Ledger, *, is_drain: bool) -> None:
    """Read every queue; leave the messages there, or empty the queues."""
    with server.peer() as peer:
        ledger.verify({queue: read_queue(peer, queue) for queue in QUEUES})
        if is_drain:
            peer.send(1, "basic.ack", delivery_tag=0, multiple=True)
            ledger.taken()
        peer.goodbye()


def run_rounds(server: LeveretServer, rounds: int) -> str:
    seed = int(os.environ.get("LEVERET_KILL_SEED", "0")) or random.randrange(1 << 30)
    lots = random.Random(seed)
    ledger, topology = Ledger(QUEUES, MOVES), Topology()
    with server.peer() as peer:
        declare_all(peer)
        peer.goodbye()
    server.ctl("add_vhost", "kill")
    server.ctl("set_policy", "kill-limit", "^kill\\.", '{"max-length": 10000000}', "--apply-to", "queues")
    for number in range(1, rounds + 1):
        ledger.report.rounds = number
        server.ctl("add_user", f"kill-{number}", "secret")
        server.ctl("set_permissions", "-p", "/", f"kill-{number}", "^a", "^b", f"^{number}$")
        expected = definitions(server)
        threads = [Actor(server.port, ledger, topology, lots.randrange(1 << 30)).start(act) for act in ACTORS]
        time.sleep(lots.uniform(0, LATEST_S))
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        if lots.random() < 0.3:  # and again, while it has hardly recovered
            time.sleep(lots.uniform(0, 0.05))
            server.kill()
            server.start()
        found = definitions(server)
        for verb, rows in expected.items():
            if rows != found[verb]:
                ledger.problem(f"{verb} was {rows}, is {found[verb]}")
        check_topology(server, topology, ledger)
        verify(server, ledger, is_drain=number == rounds or lots.random() < 0.6)
    report = ledger.report
    line = report.line()
    assert not report.problems, "\n".join([f"LEVERET_KILL_SEED={seed}", line, *report.problems[:30]])
    assert report.lost == 0
    assert "Traceback" not in server.errors
    return line


def test_kill_three_rounds(server: Callable[..., LeveretServer]) -> None:
    print(run_rounds(server(), 3))


@pytest.mark.long
def test_kill_many_rounds(server: Callable[..., LeveretServer]) -> None:
    rounds = int(os.environ.get("LEVERET_KILL_ROUNDS", "40"))
    line = run_rounds(server(), rounds)
    print(line)
