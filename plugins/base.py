"""What a plugin is: something long-lived beside the core, with a task of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import trio

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["OffersOperations", "Plugin", "PluginStatus"]


class Plugin(Protocol):
    """Anything that is no exchange type, adapter, store or authentication backend: a tracer, a bridge, a shovel.

    Built once per enabling; a base class is not needed, but saves writing the attributes that have defaults here.
    """

    name: ClassVar[str]
    """As in `plugins.enabled`; the name of the entry point."""

    description: ClassVar[str]
    """One line, for listings."""

    requires: ClassVar[Sequence[str]] = ()
    """Plugins that are enabled and started before it; disabling one of them disables it, too."""

    exchanges: ClassVar[Sequence[str]] = ()
    """Exchange types that need it: while it is disabled, exchanges of these types refuse what is published."""

    settings_type: ClassVar[type | None] = None
    """The frozen dataclass that declares its settings, the section [plugins.NAME]; see leveret.conf.declare.

    A plugin that declares settings is built with an instance of it, all others without arguments; both may raise
    ValueError for what cannot work. Settings that are declared reloadable are handed to `reconfigure(settings)`.
    """

    async def run(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Do the work; call `task_status.started()` as soon as it can be relied on.

        Runs in the broker's thread, so it must not block. Cancelled when the plugin is disabled or the broker stops:
        clean up in `finally`, quickly. It may return when there is nothing left to do. An exception ends the plugin,
        which is then listed as failed, and nothing else.
        """


@runtime_checkable
class OffersOperations(Protocol):
    """A plugin with operations for `leveret ctl`'s socket, which its commands ask for as "PLUGIN.OPERATION"."""

    def operations(self) -> Mapping[str, Callable[..., Any]]:
        """By name: functions, or coroutine functions, of the broker and keyword arguments; answers are JSON.

        Asked for once, when the plugin has started; they are offered as long as it runs.
        """


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One line of a listing. kind: "plugin" or "exchange" (an exchange type); error: why it failed, or ""."""

    name: str
    kind: str
    distribution: str
    version: str
    description: str
    is_enabled: bool
    is_running: bool
    error: str = ""
