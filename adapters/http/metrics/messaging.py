"""What messaging by REST holds for its users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.core.counters import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leveret.adapters.http.messaging.idempotency import Idempotency
    from leveret.adapters.http.messaging.leases import Leases
    from leveret.adapters.http.messaging.streams import Streams
__all__ = ["MessagingNumbers"]


class MessagingNumbers:
    """See core/counters.py."""

    def __init__(self, leases: Leases, streams: Streams, idempotency: Idempotency) -> None:
        self._leases = leases
        self._streams = streams
        self._idempotency = idempotency

    def metrics(self) -> Iterator[Metric]:
        receipts = self._idempotency.receipts
        for name, help, value in (
            ("rest_leases", "Messages that are leased to users of the REST API", len(self._leases)),
            ("rest_lease_bytes", "Their bodies", self._leases.bytes),
            ("sse_streams", "Streams of server-sent events that are connected", len(self._streams)),
            (
                "sse_streams_held",
                "Streams whose clients are away, and may come back",
                self._streams.held_count,
            ),
            ("idempotency_keys", "Answers that are kept for their Idempotency-Key", len(receipts)),
            (
                "idempotency_keys_dropped_total",
                "Of them, forgotten before their time",
                receipts.dropped_total,
            ),
        ):
            yield Metric.of(f"leveret_{name}", help, value)
