"""`leveret plugins list|enable|disable`, also under `leveret ctl plugins`."""

from __future__ import annotations

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

__all__ = ["plugins"]


@click.group(cls=CtlGroup, help="List, enable and disable the plugins of a running server.")
def plugins() -> None:
    """The group; its options are those of `leveret ctl`."""


add_common(plugins)


@click.command("list")
@click.pass_context
def list_plugins(context: click.Context) -> None:
    """List the plugins and exchange types that are installed, with their state and the reason of a failure."""
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
            "Enable plugins, and the plugins that they require. They stay enabled after a restart."),
    _switch("disable", "Disabling", "All of them were disabled.",
            "Disable plugins, and the plugins that require them. They stay disabled after a restart."),
):  # fmt: skip
    plugins.add_command(add_common(command))
