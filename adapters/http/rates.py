"""The sampler: every `http.rates_interval_s` it reads the plain counters of queues, exchanges, channels and connections.

The broker pays nothing per message. A look at 10,000 busy queues takes 25 ms (measured), in slices of a millisecond
between which others have their turn. What is kept is bounded: VALUES numbers of 8 bytes for each kind of thing (16 MiB,
and an eighth of slack), so that 10,000 busy queues have the last minute and more; what is idle costs one row. A node's
and a virtual host's own numbers are kept for a day.
"""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from leveret.adapters.http.series import Plan, Series
from leveret.adapters.http.settings import HttpSettings
from leveret.core.connections import ChannelTotals

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.connections import ClientChannel, ClientConnection
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = [
    "CHANNEL",
    "CONNECTION",
    "EXCHANGE",
    "MESSAGES",
    "NODE",
    "QUEUE",
    "QUEUE_TOTALS",
    "VHOST",
    "Columns",
    "Kind",
    "Rates",
]

VALUES = 2 << 20
SLICE = 256  # things between two checkpoints
MIN_ROUNDS, MAX_ROUNDS = 13, 121  # a minute; ten
LONG_PLAN: Plan = (
    (0, 121),
    (60_000, 61),
    (600_000, 49),
    (1_800_000, 49),
)  # ten minutes, an hour, eight, a day

T = TypeVar("T")


class Columns:
    """The names of a row of counters, and where each stands."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.columns = {name: column for column, name in enumerate(names)}


class Kind(Columns, Generic[T]):
    """A kind of thing that is looked at.

    read      the counters of one thing, in the order of names
    vhost_of  the name of its virtual host; "" if it has none (yet)
    counters  of a virtual host that are sums over its things of this kind, by (name there, column here). Each is made of
              one kind only: what a queue delivers, its channels deliver as well
    gauges    likewise, but what is gone does not count on
    """

    def __init__(
        self,
        names: tuple[str, ...],
        read: Callable[[T], tuple[int, ...]],
        vhost_of: Callable[[T], str],
        counters: Mapping[str, str],
        gauges: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(names)
        self.read = read
        self.vhost_of = vhost_of
        self.counters = tuple((name, self.columns[own]) for name, own in counters.items())
        self._parts = self.counters + tuple((name, self.columns[own]) for name, own in gauges.items())

    def add(self, totals: dict[str, int], values: tuple[int, ...]) -> None:
        """One thing's counters are part of its virtual host's."""
        for name, column in self._parts:
            totals[name] += values[column]


def _queue(queue: Queue) -> tuple[int, ...]:
    return (
        queue.published_total, queue.delivered_total, queue.delivered_no_ack_total, queue.get_total,
        queue.get_no_ack_total, queue.get_empty_total, queue.redelivered_total, queue.acknowledged_total,
        queue.ready.count, queue.unacked_count,
    )  # fmt: skip


def _exchange(exchange: Exchange) -> tuple[int, ...]:
    return exchange.published_in, exchange.published_out


def _channel(channel: ClientChannel) -> tuple[int, ...]:
    return channel.totals()


def _connection(connection: ClientConnection) -> tuple[int, ...]:
    return connection.received_bytes, connection.sent_bytes


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


QUEUE: Kind[Queue] = Kind(
    ("publish", "deliver", "deliver_no_ack", "get", "get_no_ack", "get_empty", "redeliver", "ack",
     "messages_ready", "messages_unacknowledged"),
    _queue,
    attrgetter("vhost.name"),
    _same("deliver", "deliver_no_ack", "get", "get_no_ack", "get_empty", "redeliver", "ack"),
    _same("messages_ready", "messages_unacknowledged"),
)  # fmt: skip
EXCHANGE: Kind[Exchange] = Kind(
    ("publish_in", "publish_out"), _exchange, attrgetter("vhost.name"), {"publish": "publish_in"}
)
CHANNEL: Kind[ClientChannel] = Kind(
    ChannelTotals._fields, _channel, attrgetter("vhost_name"), _same("confirm", "return_unroutable", "drop_unroutable")
)  # fmt: skip
CONNECTION: Kind[ClientConnection] = Kind(
    ("recv_oct", "send_oct"), _connection, attrgetter("vhost_name"), _same("recv_oct", "send_oct")
)

MESSAGES = (
    "publish", "confirm", "return_unroutable", "drop_unroutable", "deliver", "deliver_no_ack", "get", "get_no_ack",
    "get_empty", "redeliver", "ack",
)  # fmt: skip
QUEUE_TOTALS = ("messages_ready", "messages_unacknowledged")
BYTES = ("recv_oct", "send_oct")
VHOST_NAMES = MESSAGES + QUEUE_TOTALS + BYTES
VHOST = Columns(VHOST_NAMES)
NODE_NAMES = (
    "mem_used", "fd_used", "sockets_used", "proc_used", "disk_free", "gc_num", "context_switches", "io_sync_count",
    "connection_created", "connection_closed", "channel_created", "channel_closed", "queue_declared", "queue_created",
    "queue_deleted",
)  # fmt: skip
NODE = Columns(NODE_NAMES)
FD_DIRECTORY = Path("/proc/self/fd")


class Rates:
    """All series, and when they were last looked at."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.now_ms = 0
        self.before_ms = 0
        self._round = 0
        self._series: dict[Kind[Any], dict[Any, Series]] = {
            kind: {} for kind in (QUEUE, EXCHANGE, CHANNEL, CONNECTION)
        }
        self._retired: dict[str, dict[str, int]] = {}  # by virtual host: counters of what is gone
        self._vhosts: dict[str, Series] = {}
        self.node = Series(len(NODE_NAMES), LONG_PLAN)
        self.all = Series(len(VHOST_NAMES), LONG_PLAN)

    async def run(self) -> None:
        """Look at everything, again and again, until cancelled."""
        interval_s = HttpSettings.of(self.broker.settings).rates_interval_s
        if interval_s <= 0:
            await trio.sleep_forever()
        next_at = trio.current_time()
        while True:
            await self.look()
            next_at = max(next_at + interval_s, trio.current_time())
            await trio.sleep_until(next_at)

    async def look(self) -> None:
        """One round."""
        now_ms = int(time.time() * 1000)
        if now_ms <= self.now_ms:  # the wall clock was set back
            self._forget()
        self.before_ms, self.now_ms = self.now_ms, now_ms
        self._round += 1
        totals: dict[str, dict[str, int]] = {}
        await self._look_at(
            QUEUE, [queue for vhost in self._live() for queue in vhost.queues.values()], totals
        )
        await self._look_at(
            EXCHANGE, [one for vhost in self._live() for one in vhost.exchanges.values()], totals
        )
        connections = list(self.broker.connections)
        await self._look_at(CONNECTION, connections, totals)
        await self._look_at(CHANNEL, _channels(connections), totals)
        self._look_at_vhosts(totals)
        self.node.add(now_ms, self.node_values())

    def _live(self) -> list[Vhost]:
        return list(self.broker.vhosts.values())

    async def _look_at(self, kind: Kind[T], things: list[T], totals: dict[str, dict[str, int]]) -> None:
        """Each thing once, and add it to the totals of its virtual host."""
        known, now_ms = self._series[kind], self.now_ms
        width = len(kind.names)
        rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, VALUES // ((len(things) or 1) * (width + 1))))
        for number, thing in enumerate(things):
            if not number % SLICE:
                await trio.lowlevel.checkpoint()
            series = known.get(thing)
            if series is None:
                series = known[thing] = Series(width, ((0, rounds),))
            elif series.rings[0].capacity != rounds:
                series.bound(rounds)
            series.seen = self._round
            series.group = kind.vhost_of(thing)
            values = kind.read(thing)
            series.add(now_ms, values)
            if (own := totals.get(series.group)) is None:
                own = totals[series.group] = dict.fromkeys(VHOST_NAMES, 0)
            kind.add(own, values)
        if len(known) != len(things):
            for thing in [thing for thing, series in known.items() if series.seen != self._round]:
                self._retire(kind, known.pop(thing))

    def _look_at_vhosts(self, totals: Mapping[str, Mapping[str, int]]) -> None:
        """Their own numbers and those of all of them: what was looked at just now, and what is gone."""
        all_values = [0] * len(VHOST_NAMES)
        for name in self.broker.vhosts:
            own, gone = totals.get(name, {}), self._retired.get(name, {})
            values = tuple([own.get(one, 0) + gone.get(one, 0) for one in VHOST_NAMES])
            series = self._vhosts.get(name)
            if series is None:
                series = self._vhosts[name] = Series(len(VHOST_NAMES), LONG_PLAN)
            series.add(self.now_ms, values)
            all_values = [one + other for one, other in zip(all_values, values, strict=True)]
        self.all.add(self.now_ms, tuple(all_values))
        for name in self._vhosts.keys() - self.broker.vhosts.keys():
            del self._vhosts[name]
        for name in self._retired.keys() - self.broker.vhosts.keys():
            del self._retired[name]

    def _retire(self, kind: Kind[Any], series: Series) -> None:
        """A thing is gone: what it counted last stays in its virtual host's totals."""
        if not series.last:
            return
        retired = self._retired.setdefault(series.group, dict.fromkeys(VHOST_NAMES, 0))
        for name, column in kind.counters:
            retired[name] += series.last[column]

    def reset(self) -> None:
        """Begin anew: no past, and nothing of what is gone."""
        self._forget()
        self._retired.clear()

    def _forget(self) -> None:
        self.now_ms = self.before_ms = 0
        for known in self._series.values():
            known.clear()
        self._vhosts.clear()
        self.node = Series(len(NODE_NAMES), LONG_PLAN)
        self.all = Series(len(VHOST_NAMES), LONG_PLAN)

    # -- asking

    @property
    def memory_bytes(self) -> int:
        """Of the samples."""
        series = [self.node, self.all, *self._vhosts.values()]
        series += [one for known in self._series.values() for one in known.values()]
        return sum(len(ring.data) * 8 for one in series for ring in one.rings)

    def of(self, kind: Kind[T], thing: T) -> Series | None:
        return self._series[kind].get(thing)

    def of_vhost(self, name: str) -> Series | None:
        return self._vhosts.get(name)

    def vhost_values(self, name: str) -> tuple[int, ...]:
        """As they are now, in the order of VHOST_NAMES. What is gone counts on."""
        totals = dict(self._retired.get(name) or dict.fromkeys(VHOST_NAMES, 0))
        vhost = self.broker.vhosts.get(name)
        if vhost is None:  # deleted while somebody made a list of them
            return tuple(totals.values())
        connections = self.broker.connections.of_vhost(name)
        _sum(QUEUE, vhost.queues.values(), totals)
        _sum(EXCHANGE, vhost.exchanges.values(), totals)
        _sum(CONNECTION, connections, totals)
        _sum(CHANNEL, _channels(connections), totals)
        return tuple(totals.values())

    def node_values(self) -> tuple[int, ...]:
        """As they are now, in the order of NODE_NAMES."""
        broker = self.broker
        churn, statistics = broker.churn, broker.store.statistics()
        files = 0
        with suppress(OSError):
            files = len(os.listdir(FD_DIRECTORY))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return (
            broker.alarms.memory_used, files, len(broker.connections), threading.active_count(), broker.alarms.disk_free,
            sum(generation["collections"] for generation in gc.get_stats()),
            usage.ru_nvcsw + usage.ru_nivcsw, int(statistics.get("commits", 0)),
            churn.connections_opened, churn.connections_closed, churn.channels_opened, churn.channels_closed,
            churn.queues_declared, churn.queues_created, churn.queues_deleted,
        )  # fmt: skip


def _sum(kind: Kind[T], things: Iterable[T], totals: dict[str, int]) -> None:
    for values in map(kind.read, things):
        kind.add(totals, values)


def _channels(connections: Iterable[ClientConnection]) -> list[ClientChannel]:
    return [channel for connection in connections for channel in connection.channels.values()]
