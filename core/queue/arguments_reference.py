"""docs/queue-arguments.md, written from the table of arguments: `python docs/generate.py`."""

from __future__ import annotations

from collections.abc import Iterator

from leveret.core.queue.arguments import ARGUMENTS, QueueArgument

__all__ = ["as_markdown"]

HEADER = """\
# Queue arguments and policies

A queue is limited by the arguments of its declaration (`x-message-ttl`), by the policy whose pattern matches its name
(`message-ttl`), and by an operator policy. Where several give a number, the smallest holds; of other values an argument goes
before a policy, and an operator policy before a policy. A policy takes effect at once on queues that exist.

An argument that only another queue type accepts is refused, and an argument that is not in these tables is kept without effect.
A policy with a key that is not in these tables is refused; in a definitions file it is kept, with a warning. This page is
written from the code by `python docs/generate.py`.
"""
WITHOUT = """
## Accepted without effect

RabbitMQ uses these for placement, mirroring, memory and streams. They are checked as RabbitMQ checks them, and change nothing
here. A policy with such a key is logged with a warning.
"""
COLUMNS = "| name | argument of | policy | operator policy |"


def as_markdown() -> str:
    """The page."""
    return "".join(line + "\n" for line in _lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield HEADER
    yield "## With an effect"
    yield ""
    yield COLUMNS[:-1] + "| effect |"
    yield "|---|---|---|---|---|"
    for row in ARGUMENTS:
        if row.effect:
            yield f"{_columns(row)} {row.effect} |"
    yield "| `x-queue-type` | | | | The queue type, `classic` or `quorum`; the default is the virtual host's. |"
    yield WITHOUT
    yield COLUMNS
    yield "|---|---|---|---|"
    for row in ARGUMENTS:
        if not row.effect:
            yield _columns(row)


def _columns(row: QueueArgument) -> str:
    owner = ", ".join(f"{one} queues" for one in row.queue_types)
    if row.is_for_exchanges:
        owner = "exchanges"
    policy, operators = ("yes" if is_there else "" for is_there in (row.policy, row.is_for_operators))
    return f"| `{row.key}` | {owner} | {policy} | {operators} |"
