"""Backends with a task of their own: started before clients come, stopped after they have gone, and reconfigured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import trio
from support.registries import installed

from leveret.auth.contracts import AccessDenied, Credentials, Principal
from leveret.conf.declare import setting
from leveret.conf.settings import Auth, Settings
from leveret.core.broker import Broker
from leveret.core.registry import PluginError
from leveret.core.store.memory import MemoryStore


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """A pool of connections."""

    size: int = setting(1, "connections", minimum=1, reloadable=True)


class Pool:
    """Answers while its task runs."""

    name: ClassVar[str] = "pool"
    settings_type: ClassVar[type | None] = PoolSettings
    built: ClassVar[list[Pool]] = []

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.is_open = False
        self.built.append(self)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(self.settings.size)  # it connects
        self.is_open = True
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.is_open = False

    def reconfigure(self, settings: PoolSettings) -> None:
        self.settings = settings

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if not self.is_open:
            raise AccessDenied("the pool is closed")
        return Principal(credentials.username or "", backend=self.name)

    def authorize(self, principal: Any, vhost: str, permission: Any, resource: Any) -> bool | None:
        return self.is_open or None


def a_broker(pool: type[Pool], size: int = 1) -> Broker:
    pool.built.clear()
    registry = installed()
    registry.register("authenticators", "pool", pool)
    registry.register("authorizers", "pool", pool)
    owned = {"auth.pool": PoolSettings(size)}
    return Broker(replace(Settings(), auth=Auth(backends=("pool",)), owned=owned), registry, MemoryStore())


async def test_a_backend_runs_as_long_as_the_broker(autojump_clock: object) -> None:
    broker = a_broker(Pool, size=7)
    (pool,) = Pool.built  # one for both kinds
    assert not pool.is_open
    async with broker.running():
        assert pool.is_open
        assert (await broker.auth.authenticate(Credentials("PLAIN", "ann"))).backend == "pool"
    assert not pool.is_open


async def test_a_backend_is_given_its_settings_when_they_change() -> None:
    broker = a_broker(Pool)
    (pool,) = Pool.built
    before = broker.settings
    broker.backends.reconfigure(before, before)
    assert pool.settings == PoolSettings(1)
    broker.backends.reconfigure(before, replace(before, owned={"auth.pool": PoolSettings(2)}))
    assert pool.settings == PoolSettings(2)


async def test_a_backend_that_does_not_start_keeps_the_broker_from_starting(autojump_clock: object) -> None:
    class Broken(Pool):
        async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
            raise OSError("no route to the directory")

    class Slow(Pool):
        async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
            await trio.sleep_forever()

    for made, text in (
        (Broken, "'pool' does not start: OSError: no route"),
        (Slow, "not ready after 30 seconds"),
    ):
        with pytest.RaisesGroup(pytest.RaisesExc(PluginError, match=text), flatten_subgroups=True):
            async with a_broker(made).running():
                pass


async def test_a_backend_that_ends_later_ends_alone(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    class Brief(Pool):
        async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await trio.sleep(1)
            raise OSError("the directory has gone")

    async with a_broker(Brief).running() as broker:
        await trio.sleep(2)
        assert "backend=pool has ended" in caplog.text
        with pytest.raises(AccessDenied):
            await broker.auth.authenticate(Credentials("PLAIN", "ann"))
