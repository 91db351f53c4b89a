"""The program of README's section Embed, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
DOORS = {
    "AMQP": "0",
    "MQTT": "off",
    "STOMP": "off",
    "HTTP": "0",
    "PROMETHEUS": "off",
    "WEB_STOMP": "off",
    "WEB_MQTT": "off",
}


def program() -> str:
    section = README.read_text().partition("\n## Embed\n")[2].partition("\n## ")[0]
    (found,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def test_the_readme_s_program_runs(tmp_path: Path) -> None:
    path = tmp_path / "embedded.py"
    path.write_text(program())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    environment |= {f"LEVERET_{listener}": port for listener, port in DOORS.items()}
    environment["LEVERET_DATA_DIR"] = str(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *listeners, last = done.stdout.splitlines()
    assert len(listeners) == 2
    assert "amqp" in listeners[0]
    assert last == "inbox hello"
