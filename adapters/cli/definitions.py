"""`export_definitions` and `import_definitions`: what they do with files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from leveret.adapters.cli.options import (
    EX_DATAERR,
    EX_USAGE,
    add_common,
    announce,
    choices_of,
    done,
    fail,
    request,
)

__all__ = ["DEFINITION_COMMANDS"]

STANDARD = "-"


@click.command("export_definitions")
@click.argument("file")
@click.pass_context
def export_command(context: click.Context, file: str) -> None:
    """Write all definitions to FILE as JSON: users, virtual hosts, permissions, policies, queues, exchanges, bindings.

    "-" is standard output. The file contains password hashes, and only its owner can read it.
    """
    choices = choices_of(context)
    if file != STANDARD:
        announce(choices, f'Exporting definitions in JSON to a file at "{file}" ...')
    text = json.dumps(request(choices, "export_definitions", {}), indent=1) + "\n"
    if file == STANDARD:
        sys.stdout.write(text)
        return
    try:
        _write(Path(file), text)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", EX_USAGE)
    done(choices)


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole, readable by its owner alone."""
    if path.exists() and not path.is_file():  # a pipe, /dev/stdout
        path.write_text(text)
        return
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@click.command("import_definitions")
@click.argument("file", required=False, default=STANDARD)
@click.pass_context
def import_command(context: click.Context, file: str) -> None:
    """Import the definitions in FILE: JSON, as this broker or RabbitMQ exports it. Without FILE, standard input is read.

    What exists already stays, and nothing is deleted. An error in the file changes nothing.
    """
    choices = choices_of(context)
    source = "standard input" if file == STANDARD else f'a file at "{file}"'
    announce(choices, f"Importing definitions in JSON from {source} ...")
    try:
        text = sys.stdin.read() if file == STANDARD else Path(file).read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", EX_USAGE)
    except (ValueError, RecursionError) as error:
        fail(f"{source} is not JSON: {error}", EX_DATAERR)
    if not isinstance(document, dict):
        fail("definitions must be a JSON object", EX_DATAERR)
    answer = request(choices, "import_definitions", {"document": document})
    for warning in answer["warnings"]:
        click.echo(f"Warning: {warning}", err=True)
    counts = ", ".join(f"{count} {section}" for section, count in answer["counts"].items())
    done(choices, f"Imported {counts or 'nothing'}.")


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not allowed")


DEFINITION_COMMANDS: tuple[click.Command, ...] = (add_common(export_command), add_common(import_command))
