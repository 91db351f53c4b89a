"""SIGKILL at any moment: what was acknowledged is not lost, QoS 2 comes once, in order, and sessions are there again."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from e2e.mqtt.mqtt_broker import no_errors
from e2e.mqtt.mqtt_kill_actors import Actor, Publisher, Subscriber, check
from support.server import LeveretServer

LATEST_S = 0.6
"""Each kill comes at random between 0 and this, counted from the start of the clients."""


def run_rounds(server: LeveretServer, rounds: int) -> str:
    seed = int(os.environ.get("LEVERET_KILL_SEED", "0")) or random.randrange(1 << 30)
    lots = random.Random(seed)
    publishers = [
        Publisher("one-by-one", 4, 1, 1), Publisher("window", 5, 1, 40), Publisher("exactly-one", 4, 2, 1),
        Publisher("exactly-window", 5, 2, 40),
    ]  # fmt: skip
    subscribers = [
        Subscriber("twos", 5, 2),
        Subscriber("old-twos", 4, 2),
        Subscriber("ones", 5, 1),
        Subscriber("late", 5, 2),
    ]
    for subscriber in subscribers:
        subscriber.subscribe(server.ports["mqtt"])
    actors: list[Actor] = [*publishers, *subscribers[:-1]]  # the last one is away all the time
    for _ in range(rounds):
        threads = [actor.start(server.ports["mqtt"]) for actor in actors]
        time.sleep(lots.uniform(0, LATEST_S))
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        if lots.random() < 0.3:  # and again, while it has hardly recovered
            time.sleep(lots.uniform(0, 0.05))
            server.kill()
            server.start()
    for group in (publishers, subscribers):
        threads = [actor.start(server.ports["mqtt"], is_last=True) for actor in group]
        for thread in threads:
            thread.join()
    problems = [problem for actor in [*publishers, *subscribers] for problem in actor.problems]
    problems += [
        problem for publisher in publishers for each in subscribers for problem in check(publisher, each)
    ]
    line = f"mqtt kill rounds={rounds} acknowledged={sum(len(each.acknowledged) for each in publishers)}"
    assert not problems, "\n".join([f"LEVERET_KILL_SEED={seed}", line, *problems[:30]])
    no_errors(server)
    return line


def test_mqtt_kill_two_rounds(own_server: Callable[..., LeveretServer]) -> None:
    print(run_rounds(own_server(), 2))


@pytest.mark.long
def test_mqtt_kill_many_rounds(own_server: Callable[..., LeveretServer]) -> None:
    line = run_rounds(own_server(), int(os.environ.get("LEVERET_KILL_ROUNDS", "40")))
    print(line)
