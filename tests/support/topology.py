"""A broker with nothing around it: real virtual hosts, queues, policies; permissions by a rule."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from leveret.auth.contracts import Permission, Principal, Resource
from leveret.conf.settings import Settings
from leveret.core.churn import Churn
from leveret.core.counters import Traffic
from leveret.core.dispatcher import Dispatcher
from leveret.core.events import Events
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.exchanges.headers import HeadersExchange
from leveret.core.exchanges.topic import TopicExchange
from leveret.core.message import Envelope
from leveret.core.policy import Policies
from leveret.core.properties import Properties
from leveret.core.registry import Registry
from leveret.core.reply_to import Replies
from leveret.core.session import Session
from leveret.core.store.base import Store
from leveret.core.store.memory import MemoryStore
from leveret.core.timers import Timers
from leveret.core.vhost import Services, Vhost

__all__ = ["FakeBroker", "envelope", "names"]

Rule = Callable[[Principal, str, Permission | None, Resource], bool | None]


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

    def __init__(self, store: Store | None = None) -> None:
        if store is None:
            store = MemoryStore()
            store.open()
        registry = Registry()
        for type in (DirectExchange, FanoutExchange, HeadersExchange, TopicExchange):
            registry.register("exchanges", type.name, type)
        super().__init__(
            settings=Settings(), registry=registry, store=store, dispatcher=Dispatcher(), timers=Timers(),
            events=Events(), users=SimpleNamespace(revision=1), auth=FakeAuth(), vhosts={}, connections=set(),
            churn=Churn(), traffic=Traffic(), replies=Replies(), components={}, services={},
        )  # fmt: skip
        self.policies = Policies(
            store, self.events, self.vhosts, lambda: self.settings.limits.delivery_limit_quorum
        )

    @property
    def vhost_services(self) -> Services:
        """Of the settings and the registry that it has by now: tests replace them."""
        window = self.settings.store
        return Services(
            self.store, self.dispatcher, self.timers, self.events, self.traffic, self.churn, self.registry, self.policies,
            self.components, window.window_messages, window.window_bytes,
        )  # fmt: skip

    def add_vhost(self, name: str = "/", **metadata: Any) -> Vhost:
        vhost: Vhost = Vhost(self.vhost_services, name, **metadata)
        self.vhosts[name] = vhost
        return vhost

    def session(self, vhost: str = "/", username: str = "u", connection: object | None = None) -> Session:
        host = self.vhosts.get(vhost) or self.add_vhost(vhost)
        principal = Principal(username)
        return Session(self, host, principal, connection or object())  # a fake


def envelope(exchange: str, routing_key: str, **properties: Any) -> Envelope:
    return Envelope.of(exchange, routing_key, Properties(**properties))


def names(things: Any) -> list[str]:
    return sorted(thing.name for thing in things)
