"""kill -9 under webhooks out: what was confirmed is delivered, in order per key, under one id, whatever the endpoint does."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from support.amqp_peer import Peer
from support.hook_receiver import Answer, HookReceiver, Received
from support.hooks_api import HooksApi
from support.server import LeveretServer, poll

KEYS = 8


class Publisher:
    """Publishes persistent messages, numbered by key, in a thread, until the server is gone. `confirmed` are on the disk."""

    def __init__(self) -> None:
        self.next_of: dict[str, int] = defaultdict(int)
        self.confirmed: set[bytes] = set()

    def run(self, peer: Peer) -> None:
        """One connection's worth of it: forty at a time, then their confirms."""
        try:
            peer.rpc(1, "confirm.select")
            count = 0
            while True:
                batch = []
                for _ in range(40):
                    key = f"k{random.randrange(KEYS)}"
                    batch.append(f"{key}-{self.next_of[key]}".encode())
                    self.next_of[key] += 1
                    peer.publish(1, "amq.topic", "t.x", batch[-1], delivery_mode=2, headers={"key": key})
                count += len(batch)
                while peer.expect(1, "basic.ack").delivery_tag < count:
                    pass
                self.confirmed.update(batch)
        except Exception:  # noqa: BLE001 - the server was killed, in whatever it was doing
            return
        finally:
            peer.close()


class Endpoint:
    """Refuses a quarter of all requests, and is slow now and then; remembers what it took, in order."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.taken: list[tuple[bytes, str]] = []
        self.is_kind = False

    def answer(self, request: Received, count: int) -> Answer:
        chance = 1.0 if self.is_kind else self._chance.random()
        if chance < 0.25:
            return Answer(self._chance.choice([500, 503, 404]))
        self.taken.append((request.body, request.id))
        return Answer(200, delay_s=0.05 if chance < 0.3 else 0.0)


def check(endpoint: Endpoint, publisher: Publisher) -> None:
    ids: dict[bytes, set[str]] = defaultdict(set)
    firsts: dict[str, list[int]] = defaultdict(list)
    for body, webhook_id in endpoint.taken:
        if body not in ids:
            key, _, number = body.decode().partition("-")
            firsts[key].append(int(number))
        ids[body].add(webhook_id)
    assert publisher.confirmed <= ids.keys(), f"lost: {sorted(publisher.confirmed - ids.keys())[:10]}"
    assert {len(found) for found in ids.values()} == {1}, "an id is the same in all attempts"
    assert len(set.union(*ids.values())) == len(ids), "an id is one message's"
    for key, numbers in firsts.items():
        assert numbers == sorted(numbers), f"{key} out of order"


@pytest.mark.parametrize("rounds", [3, pytest.param(15, marks=pytest.mark.long)])
def test_nothing_is_acknowledged_away_undelivered(
    server: Callable[..., LeveretServer], tmp_path: Path, rounds: int
) -> None:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    one = server(arguments=["--config", str(config)])
    api, publisher, endpoint = HooksApi(one), Publisher(), Endpoint(54)
    with HookReceiver(endpoint.answer) as receiver:
        api.put(
            receiver, order_by="header:key", circuit_breaker=False, concurrency=8, attempts_kept=100,
            retry={"initial_s": 0.02, "factor": 1.2, "max_s": 0.2, "attempts": 1000},
        )  # fmt: skip
        for _ in range(rounds):
            thread = threading.Thread(target=publisher.run, args=(one.peer(),))
            thread.start()
            time.sleep(random.uniform(0.2, 0.8))
            one.kill()
            thread.join(10)
            assert not thread.is_alive()
            one.start()
        endpoint.is_kind = True
        poll(
            lambda: (facts := api.hook("GET"))["messages_ready"] == facts["in_flight"] == facts["retrying"] == facts["waiting"] == 0,
            "everything delivered", timeout=20 + 4 * rounds,
        )  # fmt: skip
        assert api.hook("GET", "/dead-letters") == []
        assert one.stop() == 0
    print(f"{len(publisher.confirmed)} confirmed, {len(endpoint.taken)} taken")
    assert len(publisher.confirmed) >= 40 * rounds
    check(endpoint, publisher)
    assert "Traceback" not in one.errors
