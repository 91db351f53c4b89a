"""Durable sessions as definition records: a row, one small key for each subscription and each QoS 2 packet id.

Everything is written in the group that is open, that of the messages which are taken in the same turn: a received
packet id and its message are durable together. Keys are hashes, for client ids and filters may be longer than a
store's keys. What a session has is remembered here, because the store finds keys by looking at all of them.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leveret.adapters.mqtt.spec import Subscription
from leveret.core.fields import FieldError, decode_table, encode_table

if TYPE_CHECKING:
    from leveret.core.store.base import Store
__all__ = ["SessionRecord", "SessionRecords", "record_key"]

log = logging.getLogger(__name__)

SESSION, SUBSCRIPTION = b"mqtt/session/", b"mqtt/subscription/"
RECEIVED, RELEASED = b"mqtt/received/", b"mqtt/released/"
DIGEST_BYTES = 24


def record_key(*names: str) -> bytes:
    """A hash of names, of 24 bytes: no two lists of names have the same."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name in names:
        raw = name.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.digest()


@dataclass(slots=True)
class SessionRecord:
    """A session that outlives its connection.

    expiry_s            from the disconnect on; spec.NEVER_EXPIRES
    disconnected_at_ms  wall clock; None: connected. Found by `load`: it was connected when the broker stopped
    subscriptions       by filter, as the client wrote it, `$share/group/` included
    """

    vhost: str
    client_id: str
    username: str
    expiry_s: int
    disconnected_at_ms: int | None
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    created_at_ms: int = 0


class _Kept:
    """What the store has of one session."""

    __slots__ = ("key", "received", "released", "subscriptions")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.subscriptions: dict[str, Subscription] = {}
        self.received: set[int] = set()
        self.released: set[int] = set()


class SessionRecords:
    """The records of all durable sessions of a broker. Nothing here waits; the store's `after_commit` tells when.

    A session that was not saved is not durable: its subscriptions and packet ids are not kept, and nobody has to ask.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[str, str], _Kept] = {}

    def load(self) -> list[SessionRecord]:
        """All sessions, at the start, in order of their creation. What is left of half-deleted ones is removed; a
        record that cannot be read is logged and left in the store."""
        store, self._kept = self._store, {}
        by_key: dict[bytes, tuple[SessionRecord, _Kept]] = {}
        for key, value in store.definitions(SESSION):
            row = _read(key, value)
            if row is None:
                continue
            record = SessionRecord(
                row["vhost"], row["client_id"], row["username"], int(row["expiry_s"]),
                _maybe_int(row["disconnected_at_ms"]), created_at_ms=int(row["created_at_ms"]),
            )  # fmt: skip
            kept = self._kept[record.vhost, record.client_id] = _Kept(key[len(SESSION) :])
            by_key[kept.key] = record, kept
        for key, value in store.definitions(SUBSCRIPTION):
            owner = by_key.get(key[len(SUBSCRIPTION) : len(SUBSCRIPTION) + DIGEST_BYTES])
            if owner is None:
                store.delete_definition(key)
                continue
            row = _read(key, value)
            if row is None:
                continue
            subscription = Subscription(
                row["filter"], int(row["qos"]), row["no_local"], row["retain_as_published"],
                int(row["retain_handling"]), _maybe_int(row["identifier"]),
            )  # fmt: skip
            for subscriptions in (owner[0].subscriptions, owner[1].subscriptions):
                subscriptions[subscription.filter] = subscription
        for prefix in (RECEIVED, RELEASED):
            for key, _ in store.definitions(prefix):
                owner = by_key.get(key[len(prefix) : -2])
                if owner is None:
                    store.delete_definition(key)
                    continue
                ids = owner[1].received if prefix is RECEIVED else owner[1].released
                ids.add(int.from_bytes(key[-2:], "big"))
        return sorted(
            [record for record, _ in by_key.values()],
            key=lambda record: (record.created_at_ms, record.vhost, record.client_id),
        )

    # -- sessions

    def save(self, record: SessionRecord) -> None:
        """The row, and those of its subscriptions that are not as the store has them."""
        kept = self._kept.get((record.vhost, record.client_id))
        if kept is None:
            kept = _Kept(record_key(record.vhost, record.client_id))
            self._kept[record.vhost, record.client_id] = kept
        self._store.put_definition(SESSION + kept.key, encode_table({
            "vhost": record.vhost, "client_id": record.client_id, "username": record.username,
            "expiry_s": record.expiry_s, "disconnected_at_ms": record.disconnected_at_ms,
            "created_at_ms": record.created_at_ms,
        }))  # fmt: skip
        if kept.subscriptions != record.subscriptions:
            for filter in [filter for filter in kept.subscriptions if filter not in record.subscriptions]:
                self._forget(kept, filter)
            for subscription in record.subscriptions.values():
                self._keep(kept, subscription)

    def delete(self, vhost: str, client_id: str) -> None:
        """The session with its subscriptions and packet ids. Harmless if there is none."""
        kept = self._kept.pop((vhost, client_id), None)
        if kept is None:
            return
        for filter in list(kept.subscriptions):
            self._forget(kept, filter)
        for prefix, ids in ((RECEIVED, kept.received), (RELEASED, kept.released)):
            for packet_id in ids:
                self._store.delete_definition(_packet_key(prefix, kept, packet_id))
        self._store.delete_definition(SESSION + kept.key)

    # -- subscriptions

    def save_subscription(self, vhost: str, client_id: str, subscription: Subscription) -> None:
        """A new one, or one with the same filter and other options."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None:
            self._keep(kept, subscription)

    def delete_subscription(self, vhost: str, client_id: str, filter: str) -> None:
        """filter: as the client wrote it. Harmless if there is none."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None:
            self._forget(kept, filter)

    def _keep(self, kept: _Kept, subscription: Subscription) -> None:
        if kept.subscriptions.get(subscription.filter) == subscription:
            return
        kept.subscriptions[subscription.filter] = subscription
        self._store.put_definition(SUBSCRIPTION + kept.key + record_key(subscription.filter), encode_table({
            "filter": subscription.filter, "qos": int(subscription.qos), "no_local": bool(subscription.no_local),
            "retain_as_published": bool(subscription.retain_as_published),
            "retain_handling": int(subscription.retain_handling), "identifier": subscription.identifier,
        }))  # fmt: skip

    def _forget(self, kept: _Kept, filter: str) -> None:
        if kept.subscriptions.pop(filter, None) is not None:
            self._store.delete_definition(SUBSCRIPTION + kept.key + record_key(filter))

    # -- packet ids of QoS 2

    def received(self, vhost: str, client_id: str) -> set[int]:
        """Ids of PUBLISHes taken from the client whose PUBREL has not come. A copy."""
        kept = self._kept.get((vhost, client_id))
        return set() if kept is None else set(kept.received)

    def add_received(self, vhost: str, client_id: str, packet_id: int) -> None:
        """In the group of the message."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None and packet_id not in kept.received:
            kept.received.add(packet_id)
            self._store.put_definition(_packet_key(RECEIVED, kept, packet_id), b"")

    def remove_received(self, vhost: str, client_id: str, packet_id: int) -> None:
        """PUBREL came."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None and packet_id in kept.received:
            kept.received.remove(packet_id)
            self._store.delete_definition(_packet_key(RECEIVED, kept, packet_id))

    def released(self, vhost: str, client_id: str) -> set[int]:
        """Ids of deliveries to the client for which PUBREL is out and PUBCOMP has not come. A copy."""
        kept = self._kept.get((vhost, client_id))
        return set() if kept is None else set(kept.released)

    def add_released(self, vhost: str, client_id: str, packet_id: int) -> None:
        """PUBREC came; in the group in which the message is settled."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None and packet_id not in kept.released:
            kept.released.add(packet_id)
            self._store.put_definition(_packet_key(RELEASED, kept, packet_id), b"")

    def remove_released(self, vhost: str, client_id: str, packet_id: int) -> None:
        """PUBCOMP came."""
        kept = self._kept.get((vhost, client_id))
        if kept is not None and packet_id in kept.released:
            kept.released.remove(packet_id)
            self._store.delete_definition(_packet_key(RELEASED, kept, packet_id))


def _packet_key(prefix: bytes, kept: _Kept, packet_id: int) -> bytes:
    return prefix + kept.key + packet_id.to_bytes(2, "big")


def _maybe_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _read(key: bytes, value: bytes) -> dict[str, Any] | None:
    try:
        return decode_table(value)[0]
    except FieldError as error:
        log.error("record=%r cannot be read: %s", key, error)
        return None
