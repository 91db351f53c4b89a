"""`leveret plugins list|enable|disable`, and the operations of the control listener behind it and behind `trace_on`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from leveret.adapters.cli.options import (
    CtlGroup,
    add_common,
    announce,
    choices_of,
    done,
    request,
    show_listing,
)

if TYPE_CHECKING:
    from leveret.adapters.control.server import Operation
    from leveret.core.broker import Broker
    from leveret.plugins.host import PluginHost
    from leveret.plugins.tracing import TracingPlugin
__all__ = ["plugin_operations", "plugins"]


@click.group(cls=CtlGroup, help="List, enable and disable the plugins of a running server.")
def plugins() -> None:
    """The group; its options are those of `leveret ctl`."""


add_common(plugins)


@click.command("list")
@click.pass_context
def list_plugins(context: click.Context) -> None:
    """All plugins and exchange types that are installed."""
    choices = choices_of(context)
    announce(choices, "Listing plugins ...")
    show_listing(choices, request(choices, "plugins_list", {}))


def _switch(name: str, announcement: str, nothing: str, help: str) -> click.Command:
    def run(plugins: tuple[str, ...]) -> None:
        choices = choices_of(click.get_current_context())
        announce(choices, f"{announcement} {', '.join(plugins)} ...")
        changed = request(choices, f"plugins_{name}", {"names": list(plugins)})
        done(choices, f"{name}d: {', '.join(changed)}" if changed else nothing)

    return click.Command(
        name, callback=run, params=[click.Argument(["plugins"], nargs=-1, required=True)], help=help
    )


for command in (
    list_plugins,
    _switch("enable", "Enabling", "All of them were enabled.",
            "Enable plugins, with all that they require; for good, over restarts."),
    _switch("disable", "Disabling", "All of them were disabled.",
            "Disable plugins, with all that require them; for good, over restarts."),
):  # fmt: skip
    plugins.add_command(add_common(command))


def plugin_operations(host: PluginHost) -> Mapping[str, Operation]:
    """For the control listener."""

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

    def tracing() -> TracingPlugin:
        return cast("TracingPlugin", host.plugin("tracing"))

    def trace_on(broker: Broker, vhost: str) -> None:
        tracing().trace_on(vhost)

    def trace_off(broker: Broker, vhost: str) -> None:
        tracing().trace_off(vhost)

    operations = (plugins_list, plugins_enable, plugins_disable, trace_on, trace_off)
    return {operation.__name__: operation for operation in operations}
