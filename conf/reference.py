"""The commented reference, conf/leveret.toml, written from the declarations: `python -m leveret.conf.reference`."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

from leveret.conf.settings import Setting, Settings, declarations

__all__ = ["reference"]

HEADER = """\
# Leveret: every setting with its default.
#
# A file needs only what differs:  leveret serve --config FILE
# The environment goes over the file (LEVERET_LISTENERS_AMQP=5673), and the flags of `leveret serve` over both.
# "reloadable": SIGHUP or `leveret ctl reload` applies a change; everything else needs a restart.
# Sizes in bytes may be written with a unit: "64 MiB" (2^20), "50 MB" (10^6).
"""
WIDTH = 100

# What computed defaults are, for people.
COMPUTED = {"server.data_dir": "~/.local/share/leveret", "server.node_name": "leveret@<hostname>"}


def reference() -> str:
    """The text of the file."""
    parts = [HEADER]
    settings = Settings()
    for section in fields(Settings):
        made = getattr(settings, section.name)
        doc = (type(made).__doc__ or "").strip()
        parts.append(f"\n[{section.name}]\n# {doc}\n")
        parts += [_entry(one) for one in declarations().values() if one.section == section.name]
    return "".join(parts)


def _entry(declared: Setting) -> str:
    notes = [declared.doc]
    if declared.choices:
        notes.append(f"{'any' if declared.kind is tuple else 'one'} of {', '.join(declared.choices)}")
    if declared.unit and declared.unit != "port":
        notes.append(f"in {declared.unit}")
    if declared.flag:
        notes.append(f"flag {declared.flag}")
    notes.append(f"environment {declared.environment_names[0]}")
    if declared.is_reloadable:
        notes.append("reloadable")
    lines = _wrap("; ".join(notes))
    if declared.is_computed:
        value = f'# {declared.name} = "{COMPUTED[declared.key]}"'
    else:
        value = f"{declared.name} = {_value(declared.default)}"
    return "\n" + "".join(f"# {line}\n" for line in lines) + value + "\n"


def _wrap(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _value(value: Any) -> str:
    if value is None:
        return '"off"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if value >= 100_000 else str(value)
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
