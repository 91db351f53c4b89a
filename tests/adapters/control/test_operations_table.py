"""The command line and the control listener's table must know each other."""

from __future__ import annotations

from unittest.mock import MagicMock

from leveret.__main__ import cli
from leveret.adapters.cli.commands import ctl
from leveret.adapters.control.operations import OPERATIONS
from leveret.plugins.commands import plugin_operations

FROM_THE_COMPOSITION_ROOT = {"stop", "reload"}
ONLY_HERE = {"await_startup", "plugins"}  # built from other operations


def test_every_command_has_its_operation_and_every_operation_its_command() -> None:
    offered = {*OPERATIONS, *plugin_operations(MagicMock()), *FROM_THE_COMPOSITION_ROOT}
    commands = {*ctl.commands, "plugins_list", "plugins_enable", "plugins_disable"} - ONLY_HERE
    assert commands == offered


def test_every_command_has_help() -> None:
    assert cli.list_commands(MagicMock()) == ["ctl", "plugins", "serve", "settings"]
    for name, command in ctl.commands.items():
        assert command.help, name
