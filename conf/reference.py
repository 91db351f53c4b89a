"""The references of all settings, written from their declarations: conf/leveret.toml and docs/settings.md.

`leveret settings` prints the first and `leveret settings --format markdown` the second, with what is installed beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leveret.conf.declare import Setting, declared
from leveret.conf.load import Declarations
from leveret.conf.settings import shared_sections

__all__ = ["Section", "all_sections", "as_markdown", "as_toml"]

TOML_HEADER = """\
# Leveret: every setting with its default.
#
# A file needs only what differs:  leveret serve --config FILE
# The environment goes over the file (LEVERET_LISTENERS_AMQP=5673), and the flags of `leveret serve` over both.
# "reloadable": SIGHUP or `leveret ctl reload` applies a change; everything else needs a restart.
# Sizes in bytes may be written with a unit: "64 MiB" (2^20), "50 MB" (10^6).
"""
MARKDOWN_HEADER = """\
# Settings

Every setting with its default. `leveret serve --config FILE` reads a TOML file, which needs only what differs; the
environment goes over the file, and the flags of `leveret serve` over both. SIGHUP or `leveret ctl reload` applies changes
of settings that are marked *reloadable*; all others need a restart. A variable of the environment is `LEVERET_`, the
section and the name in capitals (`LEVERET_AMQP_FRAME_MAX`); settings with a flag have a short one, too (`--data-dir`,
`LEVERET_DATA_DIR`). Sizes in bytes may be written with a unit: `"64 MiB"` (2^20), `"50 MB"` (10^6). The same text as a
file to copy from is `conf/leveret.toml`; `leveret settings` prints it with the settings of all
installed plugins. This page is written by `leveret settings --format markdown` or `python docs/generate.py`.
"""
WIDTH = 100

# What computed defaults are, for people.
COMPUTED = {"server.data_dir": "~/.local/share/leveret", "server.node_name": "leveret@<hostname>"}


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the file, with its rows."""

    name: str
    doc: str
    rows: tuple[Setting, ...]


def all_sections(owned: Declarations | None = None) -> Iterator[Section]:
    """The shared sections, then what is declared beside them. Imports all owners; raise DeclarationError."""
    declarations: dict[str, type] = dict(shared_sections())
    for name, imported in owned.sections.items() if owned is not None else ():
        declaration = imported()
        if declaration is not None:
            declarations[name] = declaration
    for name, declaration in declarations.items():
        doc = " ".join((declaration.__doc__ or "").split())
        ports = owned.ports if owned is not None and name == "listeners" else ()
        yield Section(name, doc, (*declared(name, declaration).values(), *ports))


def as_toml(owned: Declarations | None = None) -> str:
    """The text of conf/leveret.toml."""
    parts = [TOML_HEADER]
    for section in all_sections(owned):
        parts.append(f"\n[{section.name}]\n" + "".join(f"# {line}\n" for line in _wrap(section.doc)))
        parts += [_entry(row) for row in section.rows]
    return "".join(parts)


def _entry(row: Setting) -> str:
    notes = [row.doc]
    if row.choices:
        notes.append(f"{'any' if row.kind is tuple else 'one'} of {', '.join(row.choices)}")
    if row.unit and row.unit != "port":
        notes.append(f"in {row.unit}")
    if row.flag:
        notes.append(f"flag {row.flag}")
    notes.append(f"environment {row.environment_names[0]}")
    if row.is_reloadable:
        notes.append("reloadable")
    comment = "".join(f"# {line}\n" for line in _wrap("; ".join(notes)))
    return f"\n{comment}{'# ' if row.is_computed else ''}{row.name} = {_default(row)}\n"


def as_markdown(owned: Declarations | None = None) -> str:
    """The text of docs/settings.md."""
    parts = [MARKDOWN_HEADER]
    for section in all_sections(owned):
        parts.append(
            f"\n## [{section.name}]\n\n{section.doc}\n\n| setting | default | meaning |\n|---|---|---|\n"
        )
        for row in section.rows:
            notes = [_cell(row.doc)]
            if row.choices:
                notes.append(f"{'any' if row.kind is tuple else 'one'} of `{'`, `'.join(row.choices)}`")
            if row.unit and row.unit != "port":
                notes.append(f"in {row.unit}")
            if row.flag:
                notes.append(f"`{row.flag}`")
            if row.is_reloadable:
                notes.append("*reloadable*")
            parts.append(f"| `{row.name}` | `{_cell(_default(row))}` | {'; '.join(notes)} |\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def _wrap(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _default(row: Setting) -> str:
    """The default as TOML."""
    value: Any = COMPUTED[row.key] if row.is_computed else row.default
    if value is None:
        return '"off"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if value >= 100_000 else str(value)
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value)
