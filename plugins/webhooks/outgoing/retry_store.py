"""Records that survive a restart: the progress of each message that is retried, and the state of each webhook."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.store.base import Store
__all__ = [
    "Retry",
    "RetryStore",
    "WebhookState",
    "attempts_prefix",
    "identity",
    "known_retry_logs",
    "read_state",
    "save_state",
]

RETRIES, STATES, ATTEMPTS, IDENTITY = (
    b"webhooks/retry/",
    b"webhooks/state/",
    b"webhooks/attempts/",
    b"webhooks/identity",
)


@dataclass(slots=True)
class Retry:
    """The progress of a message that has failed. Times are milliseconds since the epoch."""

    attempts: int
    first_at: int
    next_at: int
    webhook_id: str
    status: int | None = None
    reason: str = ""


@dataclass(slots=True)
class WebhookState:
    """The state of a webhook. Times are milliseconds since the epoch.

    failing_since: the first failure after the last success. paused_until: the end of a pause that the endpoint asked for (Retry-After).
    disabled_by: why the webhook is disabled; "" while it is enabled.
    """

    failing_since: int | None = None
    last_failed_at: int | None = None
    paused_until: int | None = None
    disabled_by: str = ""
    disabled_at: int | None = None


def _name_key(prefix: bytes, vhost: str, name: str) -> bytes:
    raw = vhost.encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(len(raw).to_bytes(4, "big") + raw + name.encode(), digest_size=16)
    return prefix + digest.hexdigest().encode()


def attempts_prefix(vhost: str, name: str) -> bytes:
    return _name_key(ATTEMPTS, vhost, name) + b"/"


def read_state(store: Store, vhost: str, name: str) -> WebhookState:
    key = _name_key(STATES, vhost, name)
    for found, value in list(store.definitions(key)):
        if found == key:
            return WebhookState(**json.loads(value))
    return WebhookState()


def save_state(store: Store, vhost: str, name: str, state: WebhookState) -> None:
    """Write the record, or delete it for a webhook that is neither failing nor disabled."""
    key = _name_key(STATES, vhost, name)
    if state == WebhookState():
        store.delete_definition(key)
    else:
        store.put_definition(key, json.dumps(asdict(state)).encode())


def identity(store: Store) -> bytes:
    """16 random bytes that identify this store and make webhook ids unique among brokers."""
    for key, value in list(store.definitions(IDENTITY)):
        if key == IDENTITY:
            return value
    made = secrets.token_bytes(16)
    store.put_definition(IDENTITY, made)
    return made


def known_retry_logs(store: Store) -> set[int]:
    """Ids of the logs whose messages have records."""
    return {
        int.from_bytes(key[len(RETRIES) : len(RETRIES) + 8], "big")
        for key, _ in list(store.definitions(RETRIES))
    }


class RetryStore:
    """Retries of one queue's messages, by position; those of durable messages also in the store.

    A record is written in the commit group of its failure and deleted in the one that settles the message, so a crash keeps both or
    neither. The key consists of the id of the queue's log, which is never used again, and the position in it.
    """

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._prefix = b"" if not queue.log_ids else RETRIES + queue.log_ids[0].to_bytes(8, "big")
        self._retries: dict[int, Retry] = {}
        self._stored: set[int] = set()
        if self._prefix:
            self._load(queue)

    def _load(self, queue: Queue) -> None:
        for key, value in list(self._store.definitions(self._prefix)):
            position = int.from_bytes(key[len(self._prefix) :], "big")
            if _has_message(queue, position):
                self._retries[position] = Retry(**json.loads(value))
                self._stored.add(position)
            else:  # expired, purged or consumed while the plugin was not running
                self._store.delete_definition(key)

    def __len__(self) -> int:
        return len(self._retries)

    def get(self, message: Message) -> Retry | None:
        return self._retries.get(message.position)

    def put(self, message: Message, retry: Retry) -> None:
        self._retries[message.position] = retry
        if self._prefix and message.is_stored and message.envelope.is_persistent:
            self._stored.add(message.position)
            self._store.put_definition(
                self._key(message), json.dumps(asdict(retry), separators=(",", ":")).encode()
            )

    def delete(self, message: Message) -> None:
        if self._retries.pop(message.position, None) is not None and message.position in self._stored:
            self._stored.discard(message.position)
            self._store.delete_definition(self._key(message))

    def _key(self, message: Message) -> bytes:
        return self._prefix + message.position.to_bytes(8, "big")

    def clear(self) -> None:
        """Delete all records, because these messages will not be sent again."""
        for position in self._stored:
            self._store.delete_definition(self._prefix + position.to_bytes(8, "big"))
        self._stored.clear()
        self._retries.clear()

    @staticmethod
    def forget(store: Store, log_id: int) -> None:
        """Delete the records of a queue that was deleted."""
        for key, _ in list(store.definitions(RETRIES + log_id.to_bytes(8, "big"))):
            store.delete_definition(key)


def _has_message(queue: Queue, position: int) -> bool:
    for fifo in queue.fifos:
        if fifo.log is not None and any(one.position == position for one in fifo.log.read(position, 1, 1)):
            return True
    return False
