"""The authentication backends of a broker: built as the settings name them, run as long as the broker, reconfigured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from leveret.auth.chain import AuthChain
from leveret.auth.contracts import LongLived
from leveret.conf.declare import Reconfigurable
from leveret.core.registry import PluginError
from leveret.core.task_start import Started

if TYPE_CHECKING:
    from leveret.auth.internal import InternalBackend
    from leveret.conf.settings import Settings
    from leveret.core.registry import Registry
__all__ = ["Backends"]

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0  # a directory may be slow to answer at first


class Backends:
    """What `auth.backends` names, in this order. One class may serve as authenticator and authorizer: it is built once.

    chain: what answers for all of them.
    """

    def __init__(self, settings: Settings, registry: Registry, internal: InternalBackend) -> None:
        self._registry = registry
        self._kinds: dict[str, str] = {}  # by name: a kind whose declaration is the section's
        self._built: dict[str, list[Any]] = {"internal": [internal]}  # by name
        self.chain = AuthChain(
            self._of_kind("authenticators", settings),
            self._of_kind("authorizers", settings),
            loopback_users=settings.auth.loopback_users,
        )

    def _of_kind(self, kind: str, settings: Settings) -> list[Any]:
        return [
            self._one(kind, name, settings)
            for name in settings.auth.backends
            if self._registry.find(kind, name) is not None
        ]

    def _one(self, kind: str, name: str, settings: Settings) -> Any:
        made = self._registry.load(kind, name)
        built = self._built.setdefault(name, [])
        for one in built:
            if type(one) is made:
                return one
        own = self._registry.own_settings(kind, name, settings)
        built.append(made(*own))
        if own:
            self._kinds[name] = kind
        return built[-1]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the backends that have something to run; until cancelled. Raise PluginError if one does not start."""
        async with trio.open_nursery() as nursery:
            for name, built in self._built.items():
                for backend in built:
                    if isinstance(backend, LongLived):
                        with trio.move_on_after(START_TIMEOUT_S) as scope:
                            await nursery.start(self._run_one, name, backend)
                        if scope.cancelled_caught:
                            raise PluginError(
                                f"backend '{name}' was not ready after {START_TIMEOUT_S:g} seconds"
                            )
            task_status.started()

    async def _run_one(self, name: str, backend: LongLived, *, task_status: trio.TaskStatus[None]) -> None:
        """A backend that ends early is logged; what it is asked from then on, it denies itself."""
        start = Started(task_status)
        try:
            await backend.run(task_status=start)
        except Exception as error:
            if not start.is_called:
                raise PluginError(
                    f"backend '{name}' does not start: {type(error).__name__}: {error}"
                ) from error
            log.exception("backend=%s has ended", name)
        start.started()

    def reconfigure(self, former: Settings, settings: Settings) -> None:
        """The settings were reloaded: backends with reloadable ones are given theirs if they have changed."""
        for name, kind in self._kinds.items():
            own, was = (self._registry.own_settings(kind, name, each) for each in (settings, former))
            if own != was:
                for backend in self._built[name]:
                    if isinstance(backend, Reconfigurable):
                        backend.reconfigure(*own)
