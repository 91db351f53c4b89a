"""SIGKILL under publishing and receiving by REST: what was answered with 2xx is there, once, and keys are remembered."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.server import LeveretServer

AUTH = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
LATEST_S = 0.8
"""Each kill comes at random between 0.1 and this, counted from the start of the clients."""
FAN = "/v1/exchanges/%2F/rest.fan/messages"
KEPT, WORKED = (
    "rest.kept",
    "rest.worked",
)  # both are bound to the exchange; from the second one messages are taken, too
BATCH = 20


class Client:
    """One kept-alive connection. OSError, HTTPException: the server is gone."""

    def __init__(self, server: LeveretServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=20)

    def post(self, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, bool]:
        """Status, JSON, and whether it is the answer to an earlier request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", path, body, AUTH | named)
        answer = self._connection.getresponse()
        content = answer.read()
        is_replayed = answer.headers.get("Idempotency-Replayed") == "true"
        return answer.status, json.loads(content) if content else None, is_replayed

    def close(self) -> None:
        self._connection.close()


@dataclass
class Request:
    """One that publishes. key: it has an Idempotency-Key, and is repeated until it is answered."""

    path: str
    body: bytes
    messages: list[str]
    key: str = ""
    type: str = "text/plain"
    is_answered: bool = False

    def send(self, client: Client) -> bool:
        """Whether it was a replay."""
        headers = {"Idempotency_Key": self.key} if self.key else {}
        status, answer, is_replayed = client.post(self.path, self.body, Content_Type=self.type, **headers)
        expected = (
            {"count": BATCH, "routed": BATCH, "unrouted": []} if len(self.messages) > 1 else {"routed": True}
        )
        assert (status, answer) == (200, expected)
        self.is_answered = True
        return is_replayed


def plain(name: str) -> Request:
    return Request(FAN, name.encode(), [name])


def keyed(name: str) -> Request:
    return Request(FAN, name.encode(), [name], key=name)


def batch(name: str) -> Request:
    names = [f"{name}.{index}" for index in range(BATCH)]
    body = json.dumps([{"payload": one} for one in names]).encode()
    return Request(f"{FAN}/batch", body, names, key=name, type="application/json")


@dataclass
class Ledger:
    """What the clients of one round know."""

    requests: list[Request] = field(default_factory=list)
    acked: set[str] = field(default_factory=set)  # 204 or 200 has come
    unsure: set[str] = field(default_factory=set)  # an ack was sent
    problems: list[str] = field(default_factory=list)


def publisher(ledger: Ledger, make: Callable[[str], Request], name: str) -> Callable[[Client], None]:
    def act(client: Client) -> None:
        for number in range(1_000_000):
            request = make(f"{name}-{number}")
            ledger.requests.append(request)
            request.send(client)

    return act


def worker(ledger: Ledger) -> Callable[[Client], None]:
    def act(client: Client) -> None:
        while True:
            _, answer, _ = client.post(f"/v1/queues/%2F/{WORKED}/receive?max=7&wait=5&visibility=600")
            names = {message["payload"] for message in answer["messages"]}
            ledger.unsure |= names
            leases = {"leases": [message["lease"] for message in answer["messages"]]}
            status, answer, _ = client.post("/v1/leases/ack", json.dumps(leases).encode())
            assert (status, answer["unknown"]) == (200, [])
            ledger.acked |= names

    return act


def run_until_killed(
    server: LeveretServer, ledger: Ledger, acts: list[Callable[[Client], None]], seconds: float
) -> None:
    def run(act: Callable[[Client], None]) -> None:
        client = Client(server)
        try:
            act(client)
        except (OSError, http.client.HTTPException):
            pass  # killed
        except AssertionError as error:
            ledger.problems.append(str(error))
        finally:
            client.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    server.kill()
    for thread in threads:
        thread.join()


def drain(client: Client, queue: str) -> list[str]:
    """All payloads; they are gone for good when this returns."""
    found: list[str] = []
    while True:
        _, answer, _ = client.post(f"/v1/queues/%2F/{queue}/receive?max=100")
        messages = answer["messages"]
        if not messages:
            return found
        found += [message["payload"] for message in messages]
        leases = {"leases": [message["lease"] for message in messages]}
        status, answer, _ = client.post("/v1/leases/ack", json.dumps(leases).encode())
        assert (status, answer["count"]) == (200, len(messages))


def check(ledger: Ledger, kept: list[str], worked: list[str]) -> None:
    problems = ledger.problems
    for queue, found in ((KEPT, kept), (WORKED, worked)):
        problems += [
            f"{queue}: {name} is there {count} times" for name, count in Counter(found).items() if count > 1
        ]
    present, still = set(kept), set(worked)
    for request in ledger.requests:
        there = [name in present for name in request.messages]
        if (request.is_answered or request.key) and not all(there):
            problems.append(f"lost of {request.messages[0]} and so on: {there}")
        if any(there) and not all(there):
            problems.append(f"half of {request.messages[0]} and so on is there: {there}")
        for name in request.messages:
            if name in ledger.acked and name in still:
                problems.append(f"{name} was acknowledged, and has come back")
            if name in present and name not in still and name not in ledger.unsure:
                problems.append(f"{name} is in one of two queues")


def run_rounds(server: LeveretServer, rounds: int) -> str:
    seed = int(os.environ.get("LEVERET_KILL_SEED", "0")) or random.randrange(1 << 30)
    lots = random.Random(seed)
    with server.peer() as peer:
        peer.rpc(1, "exchange.declare", exchange="rest.fan", type="fanout", durable=True)
        for queue in (KEPT, WORKED):
            peer.declare(1, queue, durable=True)
            peer.rpc(1, "queue.bind", queue=queue, exchange="rest.fan", routing_key="")
        peer.goodbye()
    answered = acked = in_doubt = 0
    for number in range(1, rounds + 1):
        ledger = Ledger()
        acts = [
            publisher(ledger, make, f"{make.__name__}-{number}-{i}")
            for make in (plain, keyed, batch)
            for i in (0, 1)
        ]
        run_until_killed(server, ledger, [*acts, worker(ledger)], lots.uniform(0.1, LATEST_S))
        server.start()
        if lots.random() < 0.3:  # and again, while it has hardly recovered
            server.kill()
            server.start()
        answered += sum([request.is_answered for request in ledger.requests])
        acked += len(ledger.acked)
        client = Client(server)
        for request in [request for request in ledger.requests if request.key]:
            # Those without an answer are done by now, or done now; the others are remembered.
            was_answered = request.is_answered
            in_doubt += not was_answered
            if not was_answered or lots.random() < 0.1 or request is ledger.requests[-1]:
                is_replayed = request.send(client)
                if was_answered and not is_replayed:
                    ledger.problems.append(f"the key of {request.key} was forgotten")
        check(ledger, drain(client, KEPT), drain(client, WORKED))
        client.close()
        line = f"rest kill seed={seed} round={number} answered={answered} in doubt={in_doubt} acked={acked}"
        assert not ledger.problems, "\n".join([line, *ledger.problems[:30]])
    assert "Traceback" not in server.errors
    assert answered > 0
    return line


def test_what_was_answered_survives_kills_once(server: Callable[..., LeveretServer]) -> None:
    print(run_rounds(server(), 2))


@pytest.mark.long
def test_what_was_answered_survives_many_kills_once(server: Callable[..., LeveretServer]) -> None:
    print(run_rounds(server(), int(os.environ.get("LEVERET_KILL_ROUNDS", "40"))))
