"""A plugin's own commands: installed as a stranger's distribution, they ask the running plugin over the control socket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.distributions import install
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("it starts a server of its own")

TALLY = '''
import click
import trio
from leveret.adapters.cli.options import CtlGroup, add_common, choices_of, request


class TallyPlugin:
    name = "tally"
    description = "Counts queues"
    requires = exchanges = ()
    settings_type = None

    async def run(self, broker, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    def operations(self):
        return {"count": self.count}

    async def count(self, broker, vhost: str = "/"):
        await trio.lowlevel.checkpoint()
        return len(broker.vhosts[vhost].queues)


@click.group(cls=CtlGroup)
def tally():
    """Counts of a running server."""


@click.command()
@click.pass_context
def count(context):
    """How many queues there are."""
    click.echo(request(choices_of(context), "tally.count", {}))


add_common(tally).add_command(add_common(count))
'''
ENTRY_POINTS = """
[leveret.plugins]
tally = tally_plugin:TallyPlugin
[leveret.commands]
tally = tally_plugin:tally
ctl = tally_plugin:nothing
broken = nowhere:nothing
"""


def leveret(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    return subprocess.run(
        [sys.executable, "-m", "leveret", *arguments],
        env=kept | {"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_plugin_brings_its_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(monkeypatch, site, "tally-plugin", {"tally_plugin": TALLY}, ENTRY_POINTS)
    with LeveretServer(tmp_path / "data", {"PYTHONPATH": str(site)}) as server:
        asked = ("tally", "--data-dir", str(server.data_dir), "count")
        done = leveret(site, *asked)
        assert (done.returncode, done.stderr) == (64, "Error: there is no command tally.count\n"), (
            "it does not run"
        )
        server.ctl("plugins", "enable", "tally")
        with server.peer() as peer:
            peer.send(1, "queue.declare", queue="q")
            peer.expect(1, "queue.declare-ok")
            assert leveret(site, *asked).stdout == "1\n"
        server.ctl("plugins", "disable", "tally")
        assert leveret(site, *asked).returncode == 64
    assert "Counts of a running server." in leveret(site, "tally", "--help").stdout
    assert "rabbitmqctl" in leveret(site, "ctl", "--help").stdout, "ours is not replaced"
    broken = leveret(site, "broken")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "command 'broken' of tally-plugin 1.0 cannot be loaded" in broken.stderr
    assert "Counts of a running server." in leveret(site, "--help").stdout
    assert leveret(site, "nothing").returncode == 2
