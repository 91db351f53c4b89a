"""A broker with nothing around it: real virtual hosts, queues, policies; a store in a dict, permissions in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from leveret.auth.contracts import Permission, Principal, Resource
from leveret.conf.settings import Settings
from leveret.core.events import Events
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.exchanges.headers import HeadersExchange
from leveret.core.exchanges.topic import TopicExchange
from leveret.core.message import Envelope, Message
from leveret.core.policy import Policies
from leveret.core.properties import Properties
from leveret.core.pump import Pump
from leveret.core.registry import Registry
from leveret.core.session import Session
from leveret.core.timers import Timers
from leveret.core.vhost import Vhost

__all__ = ["FakeBroker", "FakeStore", "envelope", "names"]

Rule = Callable[[Principal, str, Permission | None, Resource], bool | None]


class FakeLog:
    """What a queue needs of a log, without a disk."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.next_position = 1
        self.messages: dict[int, Message] = {}

    @property
    def count(self) -> int:
        return len(self.messages)

    @property
    def bytes(self) -> int:
        return sum(len(message.body) for message in self.messages.values())

    def append(self, messages: list[Message]) -> None:
        for message in messages:
            message.is_stored = True
            self.messages[message.position] = message
            self.next_position = message.position + 1

    def discard(self, messages: list[Message]) -> None:
        for message in messages:
            self.messages.pop(message.position, None)

    def truncate(self, start: int) -> None:
        self.messages = {position: one for position, one in self.messages.items() if position < start}


class FakeStore:
    """Definitions and logs in dicts; survives the broker that uses it."""

    was_clean = True
    backlog_bytes = 0

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.logs: dict[int, FakeLog] = {}
        self.writes = 0
        self._next_id = 1

    def put_definition(self, key: bytes, value: bytes) -> None:
        assert len(key) <= 511, "longer than the keys of any embedded store"
        self.records[key] = value
        self.writes += 1

    def delete_definition(self, key: bytes) -> None:
        self.records.pop(key, None)

    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter([item for item in sorted(self.records.items()) if item[0].startswith(prefix)])

    def create_log(self) -> FakeLog:
        log = self.logs[self._next_id] = FakeLog(self._next_id)
        self._next_id += 1
        return log

    def open_log(self, log_id: int) -> FakeLog:
        return self.logs[log_id]

    def drop_log(self, log: FakeLog) -> None:
        self.logs.pop(log.id, None)

    def retain_logs(self, log_ids: set[int]) -> None:
        self.logs = {id: log for id, log in self.logs.items() if id in log_ids}


class FakeAuth:
    """Everything is allowed, unless `rule` says otherwise. `asked` is what was asked, in order."""

    def __init__(self) -> None:
        self.rule: Rule = lambda principal, vhost, permission, resource: True
        self.asked: list[tuple[str, str, str]] = []

    def authorize_nowait(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        self.asked.append((str(permission), resource.kind, resource.name))
        return self.rule(principal, vhost, permission, resource)

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        return resource.name.startswith("slow")


class FakeBroker(SimpleNamespace):
    """Enough of a broker for everything in core that is about names."""

    def __init__(self, store: FakeStore | None = None) -> None:
        registry = Registry()
        for type in (DirectExchange, FanoutExchange, HeadersExchange, TopicExchange):
            registry.register("exchanges", type.name, type)
        super().__init__(
            settings=Settings(), registry=registry, store=store or FakeStore(), pump=Pump(), timers=Timers(),
            events=Events(), users=SimpleNamespace(revision=1), auth=FakeAuth(), vhosts={}, connections=set(),
            starved=set(),
        )  # fmt: skip
        self.policies = Policies(self)  # type: ignore[arg-type]  # a fake

    def add_vhost(self, name: str = "/", **metadata: Any) -> Vhost:
        vhost: Vhost = Vhost(self, name, **metadata)  # type: ignore[arg-type]  # a fake
        self.vhosts[name] = vhost
        return vhost

    def session(self, vhost: str = "/", username: str = "u", connection: object | None = None) -> Session:
        host = self.vhosts.get(vhost) or self.add_vhost(vhost)
        principal = Principal(username)
        return Session(self, host, principal, connection or object())  # type: ignore[arg-type]  # a fake


def envelope(exchange: str, routing_key: str, **properties: Any) -> Envelope:
    return Envelope.of(exchange, routing_key, Properties(**properties))


def names(things: Any) -> list[str]:
    return sorted(thing.name for thing in things)
