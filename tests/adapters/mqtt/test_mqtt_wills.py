"""When a will is published, when it is not, and that it survives the broker (5.0 3.1.2.5, 3.1.3.2.2, 3.1.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from support.mqtt_places import Place

from leveret.adapters.mqtt.spec import NEVER_EXPIRES, Properties, Will
from leveret.adapters.mqtt.wills import StoredWill, Wills


@pytest.fixture(params=["memory", "lmdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.stop()


class Run:
    """One broker's wills, and which were published when (seconds since the start of the test)."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.published: list[tuple[int, StoredWill]] = []
        self.wills = Wills(broker, self._publish)

    def _publish(self, vhost: str, stored: StoredWill) -> None:
        assert vhost == stored.vhost
        assert self.wills.get(vhost, stored.client_id) is None
        self.published.append((round(trio.current_time()), stored))

    @property
    def times(self) -> list[tuple[int, str]]:
        return [(at, stored.client_id) for at, stored in self.published]

    @property
    def stored(self) -> int:
        return len(list(self.broker.store.definitions(b"mqtt/will/")))

    async def pass_time(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.broker.timers.tick()


@asynccontextmanager
async def running(place: Place, *vhosts: str) -> AsyncIterator[Run]:
    """Its timers run; when the block is left they do not."""
    run = Run(place.start(*vhosts))
    run.wills.recover()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.broker.timers.run)
        await trio.testing.wait_all_tasks_blocked()
        yield run
        nursery.cancel_scope.cancel()


def will(delay_s: int | None = None, **properties: Any) -> Will:
    return Will("w/t", b"\xffbye", 1, True, Properties(will_delay_s=delay_s, **properties))


NOW, NEVER = 0, None
LOST = [
    # will delay, session expiry, published after
    (None, 0, NOW),
    (None, 100, NOW),
    (0, 100, NOW),
    (20, 0, NOW),  # the session ends with the connection
    (20, 100, 20),
    (20, 10, 10),
    (20, NEVER_EXPIRES, 20),
    (4_000_000, NEVER_EXPIRES, 4_000_000),
]


@pytest.mark.parametrize(("delay_s", "expiry_s", "expected"), LOST)
async def test_a_lost_client(
    autojump_clock: trio.testing.MockClock, place: Place, delay_s: int | None, expiry_s: int, expected: int
) -> None:
    async with running(place) as run:
        run.wills.register("/", "c", "guest", will(delay_s), expiry_s)
        await run.pass_time(5)
        run.wills.fire("/", "c")
        run.wills.fire("/", "c")
        assert run.stored == len(run.wills) == (1 if expected else 0)
        await run.pass_time(5_000_000)
        assert run.times == [(5 + expected, "c")]
        assert run.stored == len(run.wills) == 0


Step = Callable[[Wills], None]
ENDS: list[tuple[str, int, list[Step], int | None]] = [
    ("a clean disconnect", 20, [lambda w: w.discard("/", "c")], NEVER),
    ("the session ends at the same time", 20, [lambda w: w.fire("/", "c", now=True)], NOW),
    ("disconnect with will, session cut", 20, [lambda w: w.fire("/", "c", session_expiry_s=0)], NOW),
    ("disconnect with will, session kept", 20, [lambda w: w.fire("/", "c", session_expiry_s=7)], 7),
    ("back in time", 20, [lambda w: w.fire("/", "c"), lambda w: w.reconnected("/", "c", clean_start=False)], NEVER),
    ("back in time, as a new session", 20,
     [lambda w: w.fire("/", "c"), lambda w: w.reconnected("/", "c", clean_start=True)], NOW),
    ("the session was ended while pending", 20, [lambda w: w.fire("/", "c"), lambda w: w.fire("/", "c", now=True)], NOW),
    ("cancelled", 20, [lambda w: w.fire("/", "c"), lambda w: w.cancel("/", "c")], NEVER),
    ("taken over, delayed", 20, [lambda w: w.reconnected("/", "c", clean_start=False)], NEVER),
    ("taken over by a clean start", 20, [lambda w: w.reconnected("/", "c", clean_start=True)], NOW),
    ("taken over, not delayed", 0, [lambda w: w.reconnected("/", "c", clean_start=False)], NOW),
    ("its virtual host was deleted", 20, [lambda w: w.fire("/", "c"), lambda w: w.forget_vhost("/")], NEVER),
]  # fmt: skip


@pytest.mark.parametrize(
    ("delay_s", "steps", "expected"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS]
)
async def test_ends(
    autojump_clock: trio.testing.MockClock,
    place: Place,
    delay_s: int,
    steps: list[Step],
    expected: int | None,
) -> None:
    async with running(place) as run:
        run.wills.register("/", "c", "guest", will(delay_s), 100)
        for step in steps:
            step(run.wills)
        await run.pass_time(200)
        assert run.times == ([] if expected is None else [(expected, "c")])
        assert run.stored == len(run.wills) == 0


async def test_without_a_will_nothing_happens(autojump_clock: trio.testing.MockClock, place: Place) -> None:
    async with running(place) as run:
        run.wills.fire("/", "c")
        run.wills.fire("/", "c", now=True)
        run.wills.discard("/", "c")
        run.wills.reconnected("/", "c", clean_start=True)
        await run.pass_time(10)
        assert run.times == []
        assert run.broker.store.definition_writes == 0


async def test_a_new_will_is_another_one(autojump_clock: trio.testing.MockClock, place: Place) -> None:
    async with running(place) as run:
        run.wills.register("/", "c", "guest", will(5), 100)
        run.wills.fire("/", "c")
        run.wills.register("/", "c", "guest", will(50), 100)  # the timer of the first is off
        await run.pass_time(10)
        assert run.times == []
        assert run.stored == 1
        run.wills.fire("/", "c")
        await run.pass_time(100)
        assert run.times == [(60, "c")]


async def test_the_will_is_whole_after_a_kill(autojump_clock: trio.testing.MockClock, place: Place) -> None:
    properties = Properties(
        payload_format=1, message_expiry_s=0xFFFFFFFF, content_type="text/plain; ü", response_topic="r/t",
        correlation_data=b"looks like text", user_properties=(("b", "1"), ("a", ""), ("b", "2")), will_delay_s=0,
    )  # fmt: skip
    full = Will("ü/" * 10_000, b"\0" * 60_000, 2, False, properties)
    bare = Will("t", b"", 0, False, Properties())
    run = Run(place.start())
    run.wills.register("/", "full", "üser", full, NEVER_EXPIRES)
    run.wills.register("/", "bare", "guest", bare, 0)
    await place.commit()
    place.kill()

    async with running(place) as run:
        assert {stored.client_id: stored for _, stored in run.published} == {
            "full": StoredWill("/", "full", "üser", full, NEVER_EXPIRES),
            "bare": StoredWill("/", "bare", "guest", bare, 0),
        }
        correlation_data = run.published[0][1].will.properties.correlation_data
        assert correlation_data is None or isinstance(correlation_data, bytes)
        assert run.stored == 0
    async with running(place) as run:
        assert run.published == []


async def test_delays_go_on_over_a_restart(autojump_clock: trio.testing.MockClock, place: Place) -> None:
    run = Run(place.start())
    for client_id, delay_s in (("connected", 20), ("overdue", 8), ("overdue first", 7), ("running", 30)):
        run.wills.register("/", client_id, "guest", will(delay_s), 100)
        if client_id != "connected":
            run.wills.fire("/", client_id)
    run.wills.register("/", "back in time", "guest", will(90), 100)
    await place.commit()
    place.kill()
    await trio.sleep(10)

    async with running(place) as run:
        assert run.times == [(10, "overdue first"), (10, "overdue")]
        await run.pass_time(15)
        run.wills.reconnected("/", "back in time", clean_start=False)
        await run.pass_time(100)
        assert sorted(run.times[2:]) == [(30, "connected"), (30, "running")]
        assert run.stored == 0


async def test_a_second_restart_does_not_begin_the_delay_again(
    autojump_clock: trio.testing.MockClock, place: Place
) -> None:
    run = Run(place.start())
    run.wills.register("/", "c", "guest", will(20), 100)
    place.stop()
    async with running(place) as run:
        await run.pass_time(15)
    async with running(place) as run:
        await run.pass_time(15)
        assert run.times == [(20, "c")]


async def test_a_vhost_that_is_gone_has_no_wills(
    autojump_clock: trio.testing.MockClock, place: Place
) -> None:
    run = Run(place.start("/", "v"))
    run.wills.register("v", "c", "guest", will(), 0)
    async with running(place, "/") as run:
        assert run.published == []
        assert run.stored == 0


async def test_a_broken_record_and_a_publish_that_fails_hinder_nobody(
    autojump_clock: trio.testing.MockClock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    broker = place.start()
    broker.store.put_definition(b"mqtt/will/broken", b"\0\0\0\x09")
    broker.store.put_definition(b"mqtt/will/other", b"\0\0\0\x00")
    published: list[str] = []

    def publish(vhost: str, stored: StoredWill) -> None:
        published.append(stored.client_id)
        if stored.client_id == "a":
            raise RuntimeError("no")

    wills = Wills(broker, publish)
    wills.recover()
    for client_id in "ab":
        wills.register("/", client_id, "guest", will(), 0)
        wills.fire("/", client_id)
    assert published == ["a", "b"]
    assert len(wills) == 0
    assert caplog.text.count("cannot be read") == 2
    assert "'a' its will could not be published" in caplog.text
