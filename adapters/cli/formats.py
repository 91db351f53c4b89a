"""The formats of listings, as rabbitmqctl prints them: tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FORMATTERS", "cell", "printable", "render"]

FORMATTERS = ("table", "pretty_table", "json", "csv")

Row = Mapping[str, Any]


def render(
    columns: Sequence[str],
    rows: Sequence[Row],
    formatter: str,
    *,
    has_headers: bool = True,
    is_terminal: bool = False,
) -> str:
    """Return the text of a listing, without a line end at its end.

    formatter: one of FORMATTERS. A table is aligned at a terminal, and has tabs between its columns otherwise.
    """
    if formatter == "json":
        return _json([{name: row.get(name) for name in columns} for row in rows])
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    if formatter == "csv":
        return _csv([list(columns), *cells] if has_headers else cells)
    if formatter == "pretty_table" or is_terminal:
        from tabulate import tabulate

        style = "psql" if formatter == "pretty_table" else "plain"
        return tabulate(
            cells, headers=list(columns) if has_headers else (), tablefmt=style, disable_numparse=True
        )
    if not rows:
        return ""
    return "\n".join("\t".join(line) for line in ([list(columns), *cells] if has_headers else cells))


def _json(rows: list[dict[str, Any]]) -> str:
    """A JSON array with one object per line, so that programs can read it by line."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    return "[\n" + "\n,".join(lines) + ("\n]" if lines else "]")


def _csv(lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().rstrip("\n")


def cell(value: Any) -> str:
    """Return a value as a table shows it. Field tables, lists of [name, type, value], are written as Erlang's terms."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    if isinstance(value, list):
        if value and all(isinstance(item, list) and len(item) == 3 for item in value):
            return "[" + ",".join(f"{{{_term(name)},{_term(content)}}}" for name, _, content in value) + "]"
        return "[" + ", ".join(cell(item) for item in value) + "]"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _term(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return cell(value)


def printable(text: str) -> str:
    """Escape what is not valid Unicode: names may contain any bytes, and printing must not fail."""
    return text.encode("utf-8", "backslashreplace").decode()
