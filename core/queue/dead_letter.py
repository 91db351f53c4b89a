"""Dead-lettering: the headers that a message collects with each death, and when it goes in circles. Pure functions.

The broker keeps its account in the x-death header itself, and in `Envelope.is_dead_letter` that the account is its own
(it is stored with the message). An x-death that a publisher brings, by republishing all headers of a dead letter, say,
is a header like any other until the message dies here: then the account begins anew, as in RabbitMQ 4.
"""

from __future__ import annotations

from typing import Any

from leveret.core.fields import Int64, Timestamp, encode_table, join_table, split_table
from leveret.core.message import Envelope
from leveret.core.properties import raw_headers, with_headers

__all__ = ["dead_letter_envelope", "is_cycle"]

X_DEATH = "x-death"


def dead_letter_envelope(
    envelope: Envelope,
    *,
    queue: str,
    reason: str,
    exchange: str,
    routing_key: str | None,
    now: int,
) -> Envelope:
    """The envelope under which a message that died in `queue` is published to its dead-letter exchange.

    reason: expired, rejected, maxlen or delivery_limit; exchange: the dead-letter exchange; routing_key: the
    queue's x-dead-letter-routing-key, or None; now: seconds since the epoch. Headers that are not ours stay as they
    are to the byte and in order.
    """
    headers = envelope.properties.headers or {}
    deaths = _recorded(headers) if envelope.is_dead_letter else []
    entry = next(
        (death for death in deaths if _queue_of(death) == queue and death.get("reason") == reason), None
    )
    if entry is None:
        cc = headers.get("CC")
        copies = [key for key in cc if isinstance(key, (str, bytes))] if isinstance(cc, list) else []
        entry = {
            "count": Int64(1),
            "reason": reason,
            "queue": queue,
            "time": Timestamp(now),  # of the first death; it stays
            "exchange": envelope.exchange,
            "routing-keys": [envelope.routing_key, *copies],  # BCC went when it was published
        }
        if envelope.properties.expiration is not None:
            entry["original-expiration"] = envelope.properties.expiration
    else:
        deaths.remove(entry)
        count = entry.get("count")
        entry = {**entry, "count": Int64(count + 1 if isinstance(count, int) else 1)}
    changes: dict[str, Any] = {X_DEATH: [entry, *deaths]}
    if not envelope.is_dead_letter or "x-first-death-reason" not in headers:
        changes |= {
            "x-first-death-reason": reason,
            "x-first-death-queue": queue,
            "x-first-death-exchange": envelope.exchange,
        }
    changes |= {
        "x-last-death-reason": reason,
        "x-last-death-queue": queue,
        "x-last-death-exchange": envelope.exchange,
    }
    dropped = {b"CC"} if routing_key is not None else set()
    header = with_headers(envelope.header, _edited(envelope, changes, dropped), drop_expiration=True)
    dead = Envelope(exchange, envelope.routing_key if routing_key is None else routing_key, header)
    dead.is_dead_letter = True
    return dead


def _edited(envelope: Envelope, changes: dict[str, Any], dropped: set[bytes]) -> bytes:
    """The headers' body with some keys replaced in place, others added at the end, others left out."""
    encoded = {}
    for key, value in changes.items():
        # A table of one, without its length: its single piece is (key, value) as it goes on the wire.
        ((raw_key, raw_value),) = split_table(encode_table({key: value})[4:])
        encoded[raw_key] = raw_value
    pieces = []
    for raw_key, raw_value in split_table(raw_headers(envelope.header) or b""):
        if raw_key in dropped:
            continue
        pieces.append((raw_key, encoded.pop(raw_key, raw_value)))
    return join_table([*pieces, *encoded.items()])


def _recorded(headers: dict[str, Any]) -> list[dict[str, Any]]:
    """The deaths on record, newest first; what is no such record (a publisher's own idea) is passed over."""
    deaths = headers.get(X_DEATH)
    return [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []


def _queue_of(death: dict[str, Any]) -> Any:
    """As the broker spells it: a name that is not UTF-8 comes out of a table as bytes."""
    name = death.get("queue")
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def is_cycle(envelope: Envelope, queue: str, reason: str) -> bool:
    """Would a message that has just died (its death is on record) come to `queue` again, and all by itself?

    A rejection anywhere in the circle is somebody's decision: such circles run (retry loops), others are cut.
    """
    if reason == "rejected" or not envelope.is_dead_letter:
        return False
    for death in _recorded(envelope.properties.headers or {}):
        if death.get("reason") == "rejected":
            return False
        if _queue_of(death) == queue:
            return True
    return False
