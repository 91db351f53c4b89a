"""What SUBSCRIBE and UNSUBSCRIBE ask for: headers, checked. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leveret.adapters.stomp.destinations import Destination, parse_destination
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.headers import boolean, integer
from leveret.adapters.stomp.selector import Selector, compile_selector

if TYPE_CHECKING:
    from leveret.adapters.stomp.frames import Frame
__all__ = ["TEMPORARY", "SubscribeRequest", "identity", "is_durable"]

ACK_MODES = ("auto", "client", "client-individual")
TEMPORARY = "/temp-queue/"
MAX_PREFETCH = 65535


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a SUBSCRIBE's headers say, checked. The one place where they are read.

    tag: RabbitMQ's consumer tag, which identifies it; id: None where 1.0 gives none. prefetch: 0 is unlimited.
    """

    tag: str
    id: str | None
    destination: Destination
    ack: str
    prefetch: int
    priority: int
    is_durable: bool
    queue_name: str | None
    selector: Selector | None
    headers: Mapping[str, str]

    @classmethod
    def read(cls, frame: Frame, version: str, topic_exchange: str, default_prefetch: int) -> SubscribeRequest:
        """Raise StompFault, SelectorError."""
        headers = frame.headers
        text = headers.get("destination")
        durable = is_durable(frame)
        if text is None:
            raise StompFault("Missing destination", "\"SUBSCRIBE\" must include a 'destination' header\n")
        if version != "1.0" and "id" not in headers:
            raise StompFault("Missing Header", f"Header 'id' is required on SUBSCRIBE in STOMP {version}\n")
        tag, _ = identity(frame)
        destination = parse_destination(text, topic_exchange)
        if destination.kind == "temp-queue":
            raise StompFault("Invalid destination", f"'{text}' is not a valid destination for 'SUBSCRIBE'\n")
        ack = headers.get("ack", "auto")
        if ack not in ACK_MODES:
            raise StompFault("Invalid header", f"'ack' must be one of {', '.join(ACK_MODES)}, not '{ack}'\n")
        prefetch = integer(headers, "prefetch-count")
        if prefetch is None:
            prefetch = default_prefetch
        if not 0 <= prefetch <= MAX_PREFETCH:
            raise StompFault(
                "Invalid header",
                f"'prefetch-count' must be a number from 0 to {MAX_PREFETCH}, not '{prefetch}'\n",
            )
        return cls(
            tag=tag,
            id=headers.get("id"),
            destination=destination,
            ack=ack,
            prefetch=prefetch,
            priority=integer(headers, "x-priority") or 0,
            is_durable=durable,
            queue_name=headers.get("x-queue-name"),
            selector=compile_selector(headers["selector"]) if "selector" in headers else None,
            headers=headers,
        )


def is_durable(frame: Frame) -> bool:
    """durable, or its older name persistent. Raise StompFault without an id."""
    wanted = bool(boolean(frame.headers, "durable") or boolean(frame.headers, "persistent"))
    if wanted and "id" not in frame.headers:
        raise StompFault("Missing Header", "Header 'id' is required for durable subscriptions")
    return wanted


def identity(frame: Frame) -> tuple[str, str]:
    """Consumer tag, and how it is shown: by id, or in 1.0 by destination. Raise StompFault."""
    number = frame.headers.get("id")
    if number is not None:
        if number.startswith(TEMPORARY):
            raise StompFault("Invalid id", f"{frame.command} 'id' may not start with {TEMPORARY}\n")
        return f"T_{number}", f"id='{number}'"
    text = frame.headers.get("destination")
    if text is None:
        raise StompFault(
            "Missing destination or id", f"{frame.command} must include a 'destination' or 'id' header"
        )
    return f"Q_{text}", f"destination='{text}'"
