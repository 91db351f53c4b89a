"""docs/how-to.md is true: each recipe runs as it stands, against a server of its own, and prints what the page shows.

Only ports differ: the default ports in a recipe's text are replaced by free ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.programs import program
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the recipes use this broker's own commands")

PAGE = Path(__file__).parents[2] / "docs" / "how-to.md"
LISTENERS = {
    "amqp": 5672, "amqps": 5671, "mqtt": 1883, "mqtts": 8883, "http": 15672, "prometheus": 15692, "web-stomp": 15674,
    "web-mqtt": 15675,
}  # fmt: skip
OTHERS = (8099,)
TLS = ("amqps", "mqtts")
RECIPE_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language and its text."""

    language: str
    text: str


def recipes() -> dict[str, list[Block]]:
    """The blocks of each section that has commands, by its title."""
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {
        section.partition("\n")[0]: [
            Block(*pair) for pair in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        ]
        for section in sections
    }
    return {
        title: blocks for title, blocks in found.items() if any(block.language == "sh" for block in blocks)
    }


def free_ports() -> dict[int, int]:
    """A free port for each of the page's, all different."""
    sockets = []
    for _ in (*LISTENERS.values(), *OTHERS):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return dict(zip((*LISTENERS.values(), *OTHERS), ports, strict=True))


def run_commands(text: str, environment: dict[str, str], folder: Path) -> str:
    """Standard output; fails if a command fails. What was started in the background ends with it."""
    process = subprocess.Popen(
        ["bash", "-euc", text],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=RECIPE_TIMEOUT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{text}\n{output}{errors}"
    return output


@pytest.mark.parametrize("title", recipes())
def test_the_recipe_runs_as_it_stands(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("mosquitto_pub", "mosquitto-clients")
    program("curl", "curl")
    blocks = recipes()[title]
    ports = free_ports()

    def adapted(text: str) -> str:
        return re.sub(rf"\b({'|'.join(map(str, ports))})\b", lambda found: str(ports[int(found[0])]), text)

    has_tls = any(block.language == "toml" and "[tls]" in block.text for block in blocks)
    arguments = []
    for name, port in LISTENERS.items():
        if has_tls or name not in TLS:
            arguments += [f"--{name}", str(ports[port])]
    for block in blocks:
        file = re.match(r"# (\w+\.(?:py|toml))\n", block.text)
        if file:
            (tmp_path / file[1]).write_text(adapted(block.text))
            if block.language == "toml":
                arguments += ["--config", str(tmp_path / file[1])]
    # mosquitto's clients read their default port from a file.
    for name in ("mosquitto_pub", "mosquitto_rr", "mosquitto_sub"):
        (tmp_path / name).write_text(f"-p {ports[1883]}\n")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LEVERET_DATA_DIR": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    monkeypatch.chdir(tmp_path)  # the settings name files of the recipe
    server = LeveretServer(tmp_path / "data", arguments=arguments, fresh=has_tls)
    output = ""
    is_running = False
    try:
        for block in blocks:
            # The first commands of the recipe with TLS make the files that the settings name.
            if not is_running and not (has_tls and not output):
                server.start()
                is_running = True
            if block.language == "sh":
                output += run_commands(adapted(block.text), environment, tmp_path) or "\n"
            elif block.language == "text":
                for line in block.text.splitlines():
                    assert line in output, f"{line!r} is missing in:\n{output}"
    finally:
        server.stop()
