"""A stranger's adapter: installed as a distribution of its own, configured, served and shown without a change elsewhere."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.distributions import install
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("these start servers of their own")

PARROT = '''
"""A protocol in which every line is answered."""

from dataclasses import dataclass

import trio
from leveret.adapters.base import ListenerSpec
from leveret.conf.declare import setting
from leveret.core.counters import Metric


@dataclass(frozen=True, slots=True)
class ParrotSettings:
    """Parrot 1.0."""

    greeting: str = setting("hello", "what a client is told first", reloadable=True)
    max_line: int = setting(1000, "longer lines end the connection", unit="bytes", minimum=1)


class ParrotAdapter:
    name = "parrot"
    settings_type = ParrotSettings
    listeners = (
        ListenerSpec("parrot", "Parrot", port=4711),
        ListenerSpec("parrots", "Parrot over TLS", "parrot/ssl", is_tls=True),
    )
    protocols = ("parrot10",)
    login_protocol = "parrot"

    def __init__(self, broker):
        self.broker = broker
        self.lines = 0

    @property
    def settings(self) -> ParrotSettings:
        return self.broker.settings.section("parrot", ParrotSettings)

    async def run(self, *, task_status):
        task_status.started()

    async def serve(self, transport):
        transport.send_nowait(self.settings.greeting.encode() + b"\\n")
        while chunk := await transport.receive():
            self.lines += chunk.count(b"\\n")
            transport.send_nowait(bytes(chunk))

    def metrics(self):
        yield Metric.of("parrot_lines_total", "Lines", self.lines)
'''
ENTRY_POINTS = "[leveret.adapters]\nparrot = parrot:ParrotAdapter\n"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    install(monkeypatch, tmp_path / "site", "parrot-adapter", {"parrot": PARROT}, ENTRY_POINTS)
    return tmp_path / "site"


def leveret(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    return subprocess.run(
        [sys.executable, "-m", "leveret", *arguments],
        env=kept | environment | {"PYTHONPATH": str(site)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def get(server: LeveretServer, path: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{server.ports['http']}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def greeted(server: LeveretServer) -> bytes:
    with socket.create_connection(("127.0.0.1", server.ports["parrot"]), 10) as client:
        file = client.makefile("rb")
        greeting = file.readline()
        client.sendall(b"lora\n")
        assert file.readline() == b"lora\n"
        return greeting


def test_it_is_served_and_shown_as_the_others(site: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[listeners]\nparrot = 0\n[parrot]\ngreeting = "ahoy"\n')
    environment = {"PYTHONPATH": str(site)}
    with LeveretServer(tmp_path / "data", environment, ["--config", str(config)]) as server:
        port = server.ports["parrot"]  # of the ready line
        assert greeted(server) == b"ahoy\n"
        status = json.loads(server.ctl("status", "--formatter", "json"))
        assert status["listeners"]["parrot"] == f"127.0.0.1 port {port}"
        shown = {one["protocol"]: one for one in json.loads(get(server, "/api/overview"))["listeners"]}
        assert (shown["parrot"]["port"], shown["parrot"]["tls"]) == (port, False)
        assert "parrot" in get(server, "/api/health/checks/protocol-listener/parrot")
        assert str(port) in get(server, f"/api/health/checks/port-listener/{port}")
        metrics = get(server, "/metrics")
        assert 'leveret_connections{protocol="parrot10"} 0.0' in metrics
        assert "parrot_lines_total 1.0" in metrics
        config.write_text('[parrot]\ngreeting = "hi"\nmax_line = 5\n')
        reloaded = server.ctl("reload")
        assert "parrot.greeting has changed" in reloaded
        assert "parrot.max_line needs a restart" in reloaded
        assert "listeners.parrot needs a restart" in reloaded
        assert greeted(server) == b"hi\n"


def test_its_settings_are_checked_and_listed_with_all_others(site: Path, tmp_path: Path) -> None:
    text = leveret(site, "settings").stdout
    assert "[parrot]\n# Parrot 1.0.\n" in text
    assert 'greeting = "hello"' in text
    assert "flag --parrot; environment LEVERET_PARROT\nparrot = 4711\n" in text
    assert "--parrots PORT" in leveret(site, "serve", "--help").stdout
    config = tmp_path / "c.toml"
    config.write_text("[parrot]\nmax_lime = 1\nmax_line = 0\n[amqp]\nframe_max = 1\n")
    done = leveret(
        site,
        "serve",
        "--config",
        str(config),
        "--parrots",
        "0",
        LEVERET_PARROT="x",
        LEVERET_PARROT_GREETIN="x",
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"leveret: {config}: there is no setting parrot.max_lime; did you mean max_line?",
        "leveret: LEVERET_PARROT_GREETIN: there is no such setting; did you mean LEVERET_PARROT_GREETING?",
        f"leveret: {config}: parrot.max_line must be at least 1, not 0.",
        f"leveret: {config}: amqp.frame_max must be between 4096 and 2147483647, not 1.",
        "leveret: LEVERET_PARROT must be a whole number or \"off\", not 'x'.",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ('"parrots", "Parrot', '"amqp", "Parrot'),
        ('name = "parrot"', 'nom = "parrot"'),
        ('"parrot", "Parrot"', '"bind", "Parrot"'),
    ],
)
def test_an_adapter_that_cannot_be_used_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str, complaint: str
) -> None:
    source = PARROT.replace(change, complaint)
    install(monkeypatch, tmp_path / "site", "parrot-adapter", {"parrot": source}, ENTRY_POINTS)
    done = leveret(tmp_path / "site", "serve", "--data-dir", str(tmp_path / "d"))
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert "parrot" in sentence
