"""Run by test_store_crash: appends, moves and discards until it is killed, saying what was taken and what is durable.

Lines: "S n d": about to take a group after which 1..n-1 were appended to the source and 1..d-1 of them moved to the
target. "C n d": that group is durable.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from leveret.core.store.checks import committed, make_messages, running
from leveret.core.store.lmdb.store import LmdbStore


@dataclass(frozen=True)
class Settings:
    durability: str
    map_size: int = 1 << 20


def body(position: int) -> bytes:
    return b"%d," % position * (1 + position % 1500)


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def main(path: Path, durability: str, seed: int) -> None:
    rng = random.Random(seed)
    async with running(LmdbStore(path, Settings(durability))) as store:
        ids = dict(store.definitions())
        if not ids:
            source, target = store.create_log(), store.create_log()
            store.put_definition(b"logs", b"%d %d" % (source.id, target.id))
        else:
            source, target = [store.open_log(int(log_id)) for log_id in ids[b"logs"].split()]
        new = max(source.next_position, target.next_position, 1)
        moved = found[0].position if (found := source.read(0, 1, 1)) else new
        say(f"S {new} {moved}")
        await committed(store)
        say(f"C {new} {moved}")

        async def one(size: int, share: float) -> None:
            nonlocal new, moved
            source.append(make_messages(new, [body(position) for position in range(new, new + size)]))
            new += size
            stored = source.read(moved, int((new - moved) * share), 1 << 30)
            if stored:
                messages = make_messages(stored[0].position, [message.body for message in stored])
                target.append(messages)
                again = make_messages(stored[0].position, [message.body for message in stored])
                for message in again:
                    message.is_stored = True
                source.discard(again)
                moved = stored[-1].position + 1
            taken = f"{new} {moved}"
            say(f"S {taken}")
            await committed(store)
            say(f"C {taken}")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(forever, one, rng)


async def forever(one: Callable[[int, float], Awaitable[None]], rng: random.Random) -> None:
    while True:
        await one(rng.choice((1, 1, 5, 40, 1500)), rng.choice((0.0, 0.3, 1.0)))


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
