"""Receipts: what was done under a key, for a while. Written with what was done, so that both survive a crash, or neither."""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["Receipt", "Receipts", "digest_of"]

log = logging.getLogger(__name__)

_head = Struct(">Q16sH")
DIGEST_BYTES = 16
SWEEP_S = 30.0
SWEPT = 2000  # in one go, at most
MAX_BYTES = 64 << 20
"""Of the bodies of all answers: most are a dozen bytes, that of a batch may have thousands."""


def digest_of(*parts: str | bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Receipt:
    """expires_at: milliseconds since the epoch. fingerprint: of the request; body: of its answer."""

    expires_at: int
    fingerprint: bytes
    status: int
    body: bytes
    is_stored: bool


class Receipts:
    """By key. When there are more than capacity(), or more than MAX_BYTES, those go first that would expire first.

    prefix: of the records in the store. Synchronous: whoever answers waits for the commit first.
    """

    def __init__(self, broker: Broker, prefix: bytes, capacity: Callable[[], int]) -> None:
        self._broker = broker
        self._prefix = prefix
        self._capacity = capacity
        self._known: dict[bytes, Receipt] = {}
        self._order: list[tuple[int, bytes]] = []
        self._bytes = 0
        self.dropped_total = 0  # before their time
        for key, value in list(broker.store.definitions(prefix)):
            expires_at, fingerprint, status = _head.unpack_from(value)
            receipt = Receipt(expires_at, fingerprint, status, value[_head.size :], True)
            self._known[key[len(prefix) :]] = receipt
            self._bytes += len(receipt.body)
            self._order.append((expires_at, key[len(prefix) :]))
        heapq.heapify(self._order)
        self._sweep()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: bytes) -> Receipt | None:
        receipt = self._known.get(key)
        return receipt if receipt is not None and receipt.expires_at > self._now() else None

    def put(
        self, key: bytes, *, fingerprint: bytes, status: int, body: bytes, lifetime_s: float, is_durable: bool
    ) -> None:
        """is_durable: what was done is, too. Without, it lasts as long as the process."""
        self._drop(key)
        capacity = max(1, self._capacity())
        while self._order and (len(self._known) >= capacity or self._bytes + len(body) > MAX_BYTES):
            due, oldest = heapq.heappop(self._order)
            if self._is_current(oldest, due):
                if not self.dropped_total:
                    log.warning("receipts=%s are full: the oldest are forgotten early", self._prefix.decode())
                self.dropped_total += 1
                self._drop(oldest)
        expires_at = self._now() + int(lifetime_s * 1000)
        self._known[key] = Receipt(expires_at, fingerprint, status, body, is_durable)
        self._bytes += len(body)
        heapq.heappush(self._order, (expires_at, key))
        if is_durable:
            value = _head.pack(expires_at, fingerprint, status) + body
            self._broker.store.put_definition(self._prefix + key, value)

    def _drop(self, key: bytes) -> None:
        receipt = self._known.pop(key, None)
        if receipt is None:
            return
        self._bytes -= len(receipt.body)
        if receipt.is_stored:
            self._broker.store.delete_definition(self._prefix + key)

    def _is_current(self, key: bytes, expires_at: int) -> bool:
        """Not, if the key has been used again since."""
        receipt = self._known.get(key)
        return receipt is not None and receipt.expires_at == expires_at

    def _now(self) -> int:
        timers = self._broker.timers
        return timers.wall_ms(timers.now)

    def _sweep(self) -> None:
        """Expired ones go, a slice at a time."""
        now = self._now()
        order = self._order
        for _ in range(SWEPT):
            if not order or order[0][0] > now:
                break
            expires_at, key = heapq.heappop(order)
            if self._is_current(key, expires_at):
                self._drop(key)
        is_behind = bool(order) and order[0][0] <= now
        self._broker.timers.after(0.1 if is_behind else SWEEP_S, self._sweep)
