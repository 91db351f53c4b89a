"""Heart-beats both ways, on the broker's timers: no task and no clock read per connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from leveret.adapters.connection import ConnectionState
from leveret.adapters.stomp.faults import StompFault

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
    from leveret.core.timers import Timer
__all__ = ["Heartbeat", "negotiate"]

MINIMUM_MS = 1000  # RabbitMQ's, too: nobody gets a beat a millisecond out of us
SILENCE = 2  # intervals without a byte after which a peer is gone
_pair = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*").fullmatch


def negotiate(text: str | None, own_ms: int) -> tuple[int, int, int, int]:
    """From a CONNECT's heart-beat header: what CONNECTED says (sx, sy), and the intervals to send and to expect (ms).

    0: none. own_ms: offered and asked for where the client says 0. Raise StompFault for what is no pair of numbers.
    """
    found = _pair(text or "0,0")
    if found is None:
        raise StompFault(
            "Bad CONNECT", f"'heart-beat' must be two numbers of milliseconds, like 0,0, not '{text}'\n"
        )
    client_sends, client_wants = int(found[1]), int(found[2])
    sends = max(client_wants, MINIMUM_MS) if client_wants else own_ms
    wants = max(client_sends, MINIMUM_MS) if client_sends else own_ms
    # Each direction: the larger of what one can do and the other wants; none if either says 0 (STOMP 1.2, Heart-beating).
    return (
        sends,
        wants,
        max(sends, client_wants) if sends and client_wants else 0,
        max(wants, client_sends) if wants and client_sends else 0,
    )


class Heartbeat:
    """A line feed every half interval if nothing else was sent; the peer is dropped after two silent intervals.

    Any byte counts. While the reading is paused by an alarm, silence proves nothing.
    """

    __slots__ = (
        "_connection",
        "_expect_s",
        "_received_bytes",
        "_send_s",
        "_sent_total",
        "_silent",
        "_timers",
    )

    def __init__(self, connection: StompConnection) -> None:
        self._connection = connection
        self._send_s = self._expect_s = 0.0
        self._sent_total = self._received_bytes = 0
        self._silent = 0
        self._timers: list[Timer | None] = [None, None]

    @property
    def expected_s(self) -> float:
        return self._expect_s

    def start(self, send_ms: int, expect_ms: int) -> None:
        self._send_s, self._expect_s = send_ms / 1000, expect_ms / 1000
        timers = self._connection.broker.timers
        if send_ms:
            self._timers[0] = timers.after(self._send_s / 2, self._beat)
        if expect_ms:
            self._timers[1] = timers.after(self._expect_s / 2, self._listen)

    def stop(self) -> None:
        for timer in self._timers:
            if timer is not None:
                timer.cancel()

    def _beat(self) -> None:
        connection = self._connection
        if connection.state is not ConnectionState.RUNNING:
            return
        outbox = connection.outbox
        if outbox.sent_total == self._sent_total and not outbox.chunks:
            outbox.write(b"\n")  # whole frames are written only: never within one
        self._sent_total = outbox.sent_total
        self._timers[0] = connection.broker.timers.after(self._send_s / 2, self._beat)

    def _listen(self) -> None:
        connection = self._connection
        if connection.state is not ConnectionState.RUNNING:
            return
        if connection.received_bytes != self._received_bytes or connection.is_reading_paused:
            self._silent = 0
        else:
            self._silent += 1
            if self._silent >= 2 * SILENCE:
                connection.fail(
                    StompFault(
                        "Heart-beat timeout", f"Nothing was heard for {SILENCE * self._expect_s:g} s\n"
                    )
                )
                return
        self._received_bytes = connection.received_bytes
        self._timers[1] = connection.broker.timers.after(self._expect_s / 2, self._listen)
