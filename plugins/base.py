"""The contract of a plugin: a long-lived task beside the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import trio

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["OffersOperations", "Plugin", "PluginStatus"]


class Plugin(Protocol):
    """A long-lived task that is not an exchange type, adapter, store or authentication backend, such as a tracer, a bridge or a shovel.

    An instance is created each time the plugin is enabled. A plugin need not inherit from this class, which provides the defaults of
    attributes.
    """

    name: ClassVar[str]
    """The name of the entry point, which `plugins.enabled` refers to."""

    description: ClassVar[str]
    """One line that listings show."""

    requires: ClassVar[Sequence[str]] = ()
    """The plugins that this one needs: they are enabled and started before it, and disabling one of them disables it, too."""

    exchanges: ClassVar[Sequence[str]] = ()
    """The exchange types that need this plugin: while it is disabled, exchanges of these types refuse published messages."""

    settings_type: ClassVar[type | None] = None
    """The frozen dataclass that declares its settings, the section [plugins.NAME]; see leveret.conf.declare.

    A plugin that declares settings is constructed with an instance of it, all others without arguments. The constructor may raise
    ValueError for settings that cannot be used. Changed settings that are reloadable are passed to `reconfigure(settings)`.
    """

    async def run(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Do the plugin's work. Call `task_status.started()` as soon as the plugin is ready.

        The method runs in the broker's thread, so it must not block. It is cancelled when the plugin is disabled or the broker stops,
        and must clean up quickly, in `finally`. It may return when there is nothing left to do. An exception ends this plugin alone,
        which is then listed as failed.
        """


@runtime_checkable
class OffersOperations(Protocol):
    """A plugin that offers operations on the control socket, where its commands request them as "PLUGIN.OPERATION"."""

    def operations(self) -> Mapping[str, Callable[..., Any]]:
        """The operations by name: functions or coroutine functions of the broker and keyword arguments, which return JSON values.

        Called once, when the plugin has started. The operations are offered for as long as it runs.
        """


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One row of the list of plugins. kind: "plugin" or "exchange" (an exchange type); error: why the plugin failed, or ""."""

    name: str
    kind: str
    distribution: str
    version: str
    description: str
    is_enabled: bool
    is_running: bool
    error: str = ""
