"""What follows from the result of an attempt: the message is delivered, tried again later or dead-lettered, and the log has a record."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

from leveret.plugins.webhooks.outgoing.attempts import Attempt
from leveret.plugins.webhooks.outgoing.retry_policy import retry_after_s
from leveret.plugins.webhooks.outgoing.retry_store import Retry
from leveret.plugins.webhooks.outgoing.throttle import pause_s

if TYPE_CHECKING:
    from leveret.core.timers import Timers
    from leveret.plugins.webhooks.outgoing.client import Reply
    from leveret.plugins.webhooks.outgoing.connector import RequestFailed
    from leveret.plugins.webhooks.outgoing.retry_store import RetryStore
    from leveret.plugins.webhooks.outgoing.scheduler import DeliveryScheduler, PendingDelivery
    from leveret.plugins.webhooks.outgoing.sender import Sender
    from leveret.plugins.webhooks.outgoing.throttle import Throttle
    from leveret.plugins.webhooks.outgoing.webhook import Webhook
__all__ = ["DeliveryResults"]

REFUSED_RETRY_S = 60.0  # between two attempts at a dead-letter queue that refuses messages
MAX_ERROR_CHARS = 512


class DeliveryResults:
    """Applies results for one worker pool: settles messages, schedules their next attempts and pauses the endpoint. Synchronous."""

    def __init__(
        self,
        webhook: Webhook,
        timers: Timers,
        sender: Sender,
        throttle: Throttle,
        scheduler: DeliveryScheduler,
        retries: RetryStore,
    ) -> None:
        self._webhook = webhook
        self._subscription = webhook.subscription
        self._timers = timers
        self._sender = sender
        self._throttle = throttle
        self._scheduler = scheduler
        self._retries = retries

    def is_expired(self, pending: PendingDelivery, now: float) -> bool:
        """The message has reached its expiration, or `max_age_s` after its first failure. now: monotonic seconds."""
        expires_at = pending.delivery.message.expires_at
        if expires_at is not None and expires_at <= now:
            return True
        max_age_s = self._subscription.max_age_s
        return bool(
            max_age_s
            and pending.first_at
            and self._timers.wall_ms(now) >= pending.first_at + max_age_s * 1000
        )

    def succeeded(self, pending: PendingDelivery, reply: Reply, latency_s: float) -> None:
        """Settle the message, and let the next one with its key be sent. latency_s: of the request."""
        self._throttle.succeeded(trio.current_time())
        pending.attempts += 1
        pending.delivery.ack()
        if pending.attempts > 1:
            self._retries.delete(pending.delivery.message)
        self._record(pending, "delivered", reply, "", self._sender.shown(reply.note), latency_s)
        self._webhook.succeeded(pending.attempts)
        self._scheduler.release(pending, trio.current_time())

    def failed(
        self, pending: PendingDelivery, reply: Reply | None, failure: RequestFailed | None, latency_s: float
    ) -> None:
        """Schedule another attempt, or dead-letter the message. One of reply and failure is given; latency_s: of the request."""
        subscription = self._subscription
        now = trio.current_time()
        now_ms = self._timers.wall_ms(now)
        self._throttle.failed(now)
        pending.attempts += 1
        pending.first_at = pending.first_at or now_ms
        pending.status = reply.status if reply is not None else None
        pending.reason = failure.reason if failure is not None else "status"
        error = f"the answer was {pending.status}" if failure is None else self._sender.shown(str(failure))
        self._webhook.failed(pending.attempts, pending.reason, pending.status, now_ms)
        delay_s = subscription.retry.delay_s(pending.attempts, random.random())
        verdict = ""
        if pending.status == 410:
            verdict = "gone"
        elif pending.status in subscription.dead_letter_on:
            verdict = "status"
        elif delay_s is None:
            verdict = "exhausted"
        else:
            delay_s = max(delay_s, self._pause(reply, delay_s, now))
            pending.next_at = now + delay_s
            if self.is_expired(pending, pending.next_at):
                verdict = "expired"
        if verdict:
            self.dead_letter(pending, verdict, error, reply, latency_s)
        else:
            next_at = self._timers.wall_ms(pending.next_at)
            retry = Retry(
                pending.attempts,
                pending.first_at,
                next_at,
                pending.webhook_id,
                pending.status,
                pending.reason,
            )
            self._retries.put(pending.delivery.message, retry)
            self._record(pending, "retry", reply, pending.reason, error, latency_s, next_at)
            self._scheduler.wait(pending)
        if pending.status == 410:
            self._webhook.disable("the endpoint answered 410 Gone")
        else:
            self._webhook.disable_if_failing_too_long(now_ms)

    def _pause(self, reply: Reply | None, delay_s: float, now: float) -> float:
        """The delay in seconds that the answer asks for (Retry-After). Statuses that concern all messages pause all of them."""
        if reply is None:
            return 0.0
        asked_s = retry_after_s(reply.headers.get("retry-after"), time.time())
        if asked_s is not None:
            asked_s = min(asked_s, self._subscription.max_retry_after_s)
        rest_s = pause_s(reply.status, asked_s, delay_s)
        if rest_s is not None and self._throttle.pause(now + rest_s):
            self._webhook.pause(self._timers.wall_ms(now + rest_s))
        return asked_s or 0.0

    def dead_letter(
        self,
        pending: PendingDelivery,
        reason: str,
        error: str,
        reply: Reply | None = None,
        latency_s: float = 0.0,
    ) -> None:
        """Move the message into the dead-letter queue, in one commit. If that queue refuses it, try again later."""
        message = pending.delivery.message
        if not self._webhook.dead_letter(
            message, pending.webhook_id, reason, pending.status, pending.attempts, error or pending.reason
        ):
            pending.next_at = trio.current_time() + REFUSED_RETRY_S
            self._scheduler.wait(pending)
            return
        pending.delivery.ack()
        self._retries.delete(message)
        self._record(pending, "dead", reply, reason, error, latency_s)
        self._scheduler.release(pending, trio.current_time())

    def _record(
        self,
        pending: PendingDelivery,
        outcome: str,
        reply: Reply | None,
        reason: str,
        error: str,
        latency_s: float,
        next_at: int | None = None,
    ) -> None:
        attempts, envelope = self._webhook.attempts, pending.delivery.envelope
        attempts.add(
            Attempt(
                attempts.next_id(),
                self._timers.wall_ms(trio.current_time()),
                pending.webhook_id,
                pending.delivery.message.position,
                envelope.exchange,
                envelope.routing_key,
                pending.attempts,
                outcome,
                pending.status if reply is None else reply.status,
                round(latency_s * 1000, 3),
                reason,
                error[:MAX_ERROR_CHARS],
                self._sender.snippet(reply),
                next_at,
            )
        )
