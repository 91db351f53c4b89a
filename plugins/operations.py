"""The control socket's operations on plugins, which `leveret plugins list`, `enable` and `disable` request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leveret.adapters.control.server import Operation
    from leveret.core.broker import Broker
    from leveret.plugins.host import PluginHost
__all__ = ["plugin_operations"]


def plugin_operations(host: PluginHost) -> Mapping[str, Operation]:
    """The operations by name: plugins_list, plugins_enable, plugins_disable."""

    def plugins_list(broker: Broker) -> dict[str, Any]:
        rows = [
            {
                "name": status.name, "kind": status.kind, "enabled": status.is_enabled, "running": status.is_running,
                "version": status.version, "distribution": status.distribution, "description": status.description,
                "error": status.error,
            }
            for status in host.list()
        ]  # fmt: skip
        columns = ("name", "kind", "enabled", "running", "version", "distribution", "description", "error")
        return {"columns": columns, "rows": rows}

    async def plugins_enable(broker: Broker, names: list[str]) -> list[str]:
        return [changed for name in names for changed in await host.enable(name)]

    async def plugins_disable(broker: Broker, names: list[str]) -> list[str]:
        return [changed for name in names for changed in await host.disable(name)]

    return {operation.__name__: operation for operation in (plugins_list, plugins_enable, plugins_disable)}
