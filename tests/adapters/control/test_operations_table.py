"""The command line and the control listener's table agree: names, arguments, help and the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import pytest
from click.testing import CliRunner

from leveret.__main__ import cli
from leveret.adapters.cli import client
from leveret.adapters.cli.commands import ctl
from leveret.adapters.cli.reference import SECTIONS, as_markdown
from leveret.adapters.control.operations import OPERATIONS
from leveret.adapters.control.server import check_arguments
from leveret.plugins.operations import plugin_operations

PAGE = Path(__file__).parents[3] / "docs" / "ctl.md"
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
        assert command.help.rstrip().endswith("."), name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize("name", sorted({*ctl.commands} & {*OPERATIONS}))
def test_commands_send_what_their_operations_take(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def call(path: Path, command: str, arguments: dict[str, Any], timeout_s: float | None = None) -> Any:
        asked.append((command, arguments))
        return (
            {"columns": [], "rows": []}
            if command.startswith("list_")
            else {"node": "n", "counts": {}, "warnings": []}
        )

    monkeypatch.setattr(client, "call", call)
    words = ["-" for one in ctl.commands[name].params if isinstance(one, click.Argument)]
    done = CliRunner().invoke(ctl, ["--data-dir", str(tmp_path), name, "--", *words], input="{}")
    assert (done.exit_code, done.stderr) == (0, "")
    ((command, arguments),) = asked
    assert command == name
    check_arguments(name, OPERATIONS[name], arguments)


def test_the_reference_page_is_current_and_complete() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted({*ctl.commands} - {"plugins"})
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), (
        "run `python -m leveret.adapters.cli.reference > docs/ctl.md`"
    )
