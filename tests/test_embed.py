"""The program of README's section Embed, and those of docs/embedding.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
PORTS = {
    "AMQP": "0",
    "MQTT": "off",
    "STOMP": "off",
    "HTTP": "0",
    "PROMETHEUS": "off",
    "WEB_STOMP": "off",
    "WEB_MQTT": "off",
}


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(program: str, tmp_path: Path) -> list[str]:
    """The lines that the program prints."""
    path = tmp_path / "embedded.py"
    path.write_text(program)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    environment |= {f"LEVERET_{listener}": port for listener, port in PORTS.items()}
    environment["LEVERET_DATA_DIR"] = str(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def of_readme() -> str:
    section = README.read_text().partition("\n## Embed\n")[2].partition("\n## ")[0]
    (found,) = programs(section)
    return found


@pytest.mark.parametrize("program", [of_readme(), programs(EMBEDDING.read_text())[0]], ids=["readme", "docs"])
def test_the_first_program_runs(program: str, tmp_path: Path) -> None:
    *listeners, last = run(program, tmp_path)
    assert len(listeners) == 2
    assert "amqp" in listeners[0]
    assert last == "inbox hello"


def test_the_program_with_plugins_and_a_user_runs(tmp_path: Path) -> None:
    _, program = programs(EMBEDDING.read_text())
    assert run(program, tmp_path) == ["order 0", "order 1", "order 2"]
