"""A webhook: the part of a subscription that outlives its versions, failures and restarts.

It owns the queues (topology.py), the records in the store (attempts.py, retry_store.py), the counters and the state. While there is
a queue to consume and the webhook is enabled, `run` runs a `WorkerPool` for it; each version of the subscription has a pool of its
own.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from leveret.core.errors import NotFound
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.plugins.webhooks.outgoing import COMPONENT, topology
from leveret.plugins.webhooks.outgoing.attempts import AttemptLog
from leveret.plugins.webhooks.outgoing.dead_letters import (
    WEBHOOK_ID_HEADER,
    Replay,
    Selection,
    dead_envelope,
    replay,
)
from leveret.plugins.webhooks.outgoing.masking import masked
from leveret.plugins.webhooks.outgoing.retry_store import (
    RetryStore,
    WebhookState,
    attempts_prefix,
    read_state,
    save_state,
)
from leveret.plugins.webhooks.outgoing.worker_pool import WorkerPool
from leveret.plugins.webhooks.standard_webhooks import MAX_SECRETS, new_secret

if TYPE_CHECKING:
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.outgoing.connector import Connector
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["Webhook"]

log = logging.getLogger(__name__)

WEBHOOK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # the specification forbids dots
FAILING_AFTER = 4  # failed attempts at one message, after which an event tells operators
RESTART_S = 5.0  # after an internal error
DEAD_LETTER_LOG_S = (
    1.0  # between two log lines, because thousands of messages may be dead-lettered in a second
)


class Webhook:
    """One webhook of a virtual host. `update` sets another version of its subscription; `run` works until cancelled."""

    def __init__(
        self,
        vhost: Vhost,
        subscription: Subscription,
        connector: Connector,
        *,
        identity: bytes,
        max_bytes: int,
    ) -> None:
        self.vhost = vhost
        self.subscription = subscription
        self.connector = connector
        self.max_bytes = max_bytes
        self.scope = trio.CancelScope()
        self.is_removed = False
        self._services = vhost.services
        self._identity = identity
        store = self._services.store
        self.state = read_state(store, vhost.name, subscription.name)
        self._is_state_dirty = False
        prefix = attempts_prefix(vhost.name, subscription.name)
        self.attempts = AttemptLog(store, prefix, subscription.attempts_kept)
        self._retry_stores: tuple[Queue, RetryStore] | None = None
        self._pool: WorkerPool | None = None
        self._serving: trio.CancelScope | None = None
        self._changed = trio.Event()
        self.waits_for = ""  # a sentence that says what is missing; "" if nothing is
        self.delivered_total = 0
        self.failed_total = 0  # attempts
        self.dead_total = 0
        self.replaying = trio.Lock()
        self._quiet_until = -math.inf

    @property
    def name(self) -> str:
        return self.subscription.name

    # -- changes

    def update(self, subscription: Subscription) -> None:
        """Set a new version; requests of the old one end. This also enables a webhook that was disabled."""
        self.subscription = subscription
        self.attempts.capacity = subscription.attempts_kept
        if self.state.disabled_by:
            self.enable()
        self.ensure_queues()
        self.wake()

    def wake(self) -> None:
        """Restart the pool, because the subscription or the state has changed."""
        self._changed.set()
        if self._pool is not None:
            self._pool.is_stopping = True
        if self._serving is not None:
            self._serving.cancel()

    def resume_if_waiting(self) -> None:
        """An exchange or a queue was created or deleted: check again what the webhook waits for."""
        if self.waits_for:
            self.ensure_queues()
            self._changed.set()

    def enable(self) -> None:
        """Deliver again, after an operator, a status of 410 or lasting failure has disabled the webhook."""
        self.state = WebhookState()
        self._save_state()
        self._emit("webhook.enabled")
        self.wake()

    def disable(self, why: str) -> None:
        """Send nothing until the webhook is enabled again; messages stay in the queue. The next commit makes this durable."""
        if self.state.disabled_by:
            return
        self.state.disabled_by = why
        self.state.disabled_at = self._now_ms()
        self._save_state()
        log.warning("vhost=%s webhook=%s disabled: %s", self.vhost.name, self.name, why)
        self._emit("webhook.disabled", reason=why)
        self.wake()

    def disable_if_failing_too_long(self, now_ms: int) -> None:
        since, limit_s = self.state.failing_since, self.subscription.disable_after_s
        if limit_s and since is not None and now_ms - since >= limit_s * 1000:
            self.disable(f"no success for {limit_s:g} s")

    def remove(self) -> None:
        """Stop, and delete the webhook's own queue and its records. A dead-letter queue that has messages stays."""
        self.is_removed = True
        self.scope.cancel()
        store, vhost = self._services.store, self.vhost
        self.attempts.forget()
        self.state = WebhookState()
        save_state(store, vhost.name, self.name, self.state)
        queue = vhost.queues.get(self.subscription.queue_name)
        if queue is not None:
            self.retries_of(queue).clear()
            if self.subscription.queue is None:
                vhost.remove_queue(queue)
        dead = vhost.queues.get(self.subscription.dead_queue_name)
        if dead is not None and not dead.message_count and not dead.unacked_count:
            vhost.remove_queue(dead)

    # -- queues

    def ensure_queues(self) -> Queue | None:
        """Declare the queues and bindings that the subscription needs. Returns None, and sets `waits_for`, if something is missing."""
        if self.is_removed:
            self.waits_for = topology.VHOST_GONE
            return None
        queue, self.waits_for = topology.ensure(self.vhost, self.subscription)
        return queue

    def dead_queue(self) -> Queue:
        """The dead-letter queue, declared if it does not exist."""
        return topology.dead_queue(self.vhost, self.subscription)

    def retries_of(self, queue: Queue) -> RetryStore:
        """The retries of a queue's messages. The object is kept as long as the queue, because it is the only record of transient messages."""
        if self._retry_stores is None or self._retry_stores[0] is not queue:
            self._retry_stores = queue, RetryStore(self._services.store, queue)
        return self._retry_stores[1]

    # -- delivering

    async def run(self) -> None:
        """Work until cancelled. An internal error is logged and the work restarted; it does not reach other webhooks."""
        with self.scope:
            while True:
                try:
                    await self._run()
                except Exception:
                    log.exception("vhost=%s webhook=%s failed", self.vhost.name, self.name)
                    await trio.sleep(RESTART_S)

    async def _run(self) -> None:
        while True:
            self._changed = trio.Event()
            queue = self.ensure_queues()
            if queue is None or self.state.disabled_by or not self.subscription.is_enabled:
                await self._changed.wait()
                continue
            with trio.CancelScope() as self._serving:
                self._pool = WorkerPool(self, queue)
                try:
                    await self._pool.run()
                finally:
                    self._pool, self._serving = None, None

    def webhook_id(self, message: Message) -> str:
        """The message's id for receivers: the publisher's message id, or a digest of the message's position in its queue.

        It is the same in all attempts and, for persistent messages, after a restart.
        """
        properties = message.envelope.properties
        given = (properties.headers or {}).get(WEBHOOK_ID_HEADER) if properties.headers else None
        for candidate in (given, properties.message_id):
            if isinstance(candidate, str) and WEBHOOK_ID.fullmatch(candidate):
                return candidate
        queue = message.queue
        digest = hashlib.blake2b(self._identity, digest_size=15)
        log_id = queue.log_ids[0] if queue.log_ids else 0
        digest.update(log_id.to_bytes(8, "big") + message.position.to_bytes(8, "big"))
        if not message.envelope.is_persistent or not log_id:
            # After a restart another message may have the same position.
            digest.update(id(self).to_bytes(8, "big") + str(self._services.timers.wall_ms(0)).encode())
            digest.update(queue.name.encode("utf-8", "surrogateescape"))
        return f"msg_{digest.hexdigest()}"

    def succeeded(self, attempts: int) -> None:
        """Count a message that was delivered after so many attempts."""
        self.delivered_total += 1
        state = self.state
        if state.failing_since is not None:
            state.failing_since = state.last_failed_at = None
            self._is_state_dirty = True
        if attempts > FAILING_AFTER:
            self._emit("webhook.recovered", attempts=attempts)

    def failed(self, attempts: int, reason: str, status: int | None, now_ms: int) -> None:
        """Count a failed attempt, and note since when the webhook has been failing."""
        self.failed_total += 1
        state = self.state
        forgotten_ms = self.subscription.disable_after_s * 1000
        if state.failing_since is None or now_ms - (state.last_failed_at or 0) > forgotten_ms > 0:
            # Failures that are far apart are not a lasting failure.
            state.failing_since = now_ms
        state.last_failed_at = now_ms
        self._is_state_dirty = True
        if attempts == FAILING_AFTER:
            self._emit("webhook.failing", attempts=attempts, reason=reason, status=status)

    def pause(self, until_ms: int) -> None:
        """Record a pause that the endpoint asked for, so that it survives a restart."""
        self.state.paused_until = until_ms
        self._save_state()

    def dead_letter(
        self,
        message: Message,
        webhook_id: str,
        reason: str,
        status: int | None,
        attempts: int,
        error: str,
    ) -> bool:
        """Put a copy into the dead-letter queue. Returns False if the queue refuses it."""
        envelope = dead_envelope(
            message, subscription=self.name, webhook_id=webhook_id, reason=reason, status=status, attempts=attempts,
            error=error, at_ms=self._now_ms(),
        )  # fmt: skip
        if self.dead_queue().publish(envelope, [message.body]):
            log.error(
                "vhost=%s webhook=%s queue=%s refuses a dead letter",
                self.vhost.name,
                self.name,
                self.subscription.dead_queue_name,
            )
            return False
        self.dead_total += 1
        now = trio.current_time()
        if now >= self._quiet_until:
            self._quiet_until = now + DEAD_LETTER_LOG_S
            log.warning(
                "vhost=%s webhook=%s id=%s dead-lettered: reason=%s status=%s attempts=%d dead_total=%d",
                self.vhost.name, self.name, webhook_id, reason, status, attempts, self.dead_total,
            )  # fmt: skip
        self._emit(
            "webhook.exhausted", webhook_id=webhook_id, reason=reason, status=status, attempts=attempts
        )
        return True

    # -- operations of operators

    async def replay(self, selection: Selection, limit: int) -> Replay:
        """Move dead letters back into the queue. A webhook runs one replay at a time."""
        async with self.replaying:
            result = await replay(self.dead_queue(), self.ensure_queues, selection, limit=limit)
        log.info("vhost=%s webhook=%s replayed=%d", self.vhost.name, self.name, result.replayed)
        return result

    def rotate_secret(self, secret: str | None, keep_s: float) -> str:
        """Sign with a new secret from now on, and for `keep_s` seconds with the old ones, too.

        secret: None generates one. Returns the new secret, which is never shown again. Raise InvalidArgument.
        """
        value = self.vhost.parameters[COMPONENT, self.name]
        new, now = secret or new_secret(), time.time()
        kept: list[Any] = []
        for one in value.get("secrets", []):
            old = dict(one) if isinstance(one, Mapping) else {"secret": one}
            ends_at = min(old.get("expires_at") or now + keep_s, now + keep_s)
            if ends_at > now and old["secret"] != new:
                kept.append({**old, "expires_at": round(ends_at, 3)})
        secrets = [new, *kept[: MAX_SECRETS - 1]]
        self.vhost.set_parameter(COMPONENT, self.name, {**value, "secrets": secrets})
        return new

    def send_test(self, body: bytes, content_type: str) -> None:
        """Put a message into the queue as if it had been published. Raise NotFound if there is no queue."""
        queue = self.ensure_queues()
        if queue is None:
            raise NotFound(self.waits_for)
        properties = Properties(
            content_type=content_type, delivery_mode=2, type="webhook.test", timestamp=int(time.time())
        )
        queue.publish(Envelope.of(self.subscription.exchange or "", "webhook.test", properties), [body])
        queue.dispatcher.run_soon()

    # -- records and answers

    def flush(self) -> None:
        """Hand changed records to the store; called every second and at the end."""
        if self.is_removed:
            return
        self.attempts.flush()
        if self._is_state_dirty:
            self._save_state()

    def _save_state(self) -> None:
        self._is_state_dirty = False
        save_state(self._services.store, self.vhost.name, self.name, self.state)

    @property
    def activity(self) -> dict[str, Any]:
        """The current activity, for answers of the API; empty while no pool is running."""
        return {} if self._pool is None else self._pool.activity()

    @property
    def first_failure_ms(self) -> int | None:
        """When the message that has been retried for the longest time failed first, in milliseconds since the epoch."""
        return None if self._pool is None else self._pool.first_failure_ms

    def _now_ms(self) -> int:
        return self._services.timers.wall_ms(trio.current_time())

    def _emit(self, event: str, **facts: Any) -> None:
        self._services.events.emit(event, vhost=self.vhost.name, name=self.name, **facts)

    def describe(self) -> dict[str, Any]:
        """The subscription without its secrets, and the webhook's state, for answers."""
        state, queues = self.state, self.vhost.queues
        queue, dead = queues.get(self.subscription.queue_name), queues.get(self.subscription.dead_queue_name)
        status = "running"
        if state.disabled_by or not self.subscription.is_enabled:
            status = "disabled"
        elif self.waits_for:
            status = "waiting"
        answer: dict[str, Any] = {
            "vhost": self.vhost.name,
            "name": self.name,
            "subscription": masked(self.vhost.parameters.get((COMPONENT, self.name), {})),
            "status": status,
            "queue": self.subscription.queue_name,
            "dead_letter_queue": self.subscription.dead_queue_name,
            "messages_ready": queue.message_count if queue is not None else 0,
            "messages_dead": dead.message_count if dead is not None else 0,
            "delivered_total": self.delivered_total,
            "failed_attempts_total": self.failed_total,
            "dead_total": self.dead_total,
            "failing_since": state.failing_since,
        }
        if state.disabled_by:
            answer |= {"disabled_by": state.disabled_by, "disabled_at": state.disabled_at}
        if self.waits_for:
            answer["waits_for"] = self.waits_for
        return answer | self.activity
