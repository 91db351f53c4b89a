"""Delivers the messages of a webhook: consumes its queue, sends requests and decides what follows from each answer.

A message stays unsettled in its queue until it is delivered or dead-lettered. After a failure it waits for its next attempt, which is
recorded in the `RetryStore`. At most `max_retrying` messages wait; then no more are consumed, and the rest stays in the queue, on the
disk. Which message is next is up to the `DeliveryScheduler`, when a request may start to the `Throttle`; both are synchronous, and so
is everything here but `run` and the workers.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from leveret.core.deliveries import Deliveries, Delivery, consume_queue
from leveret.plugins.webhooks.outgoing.attempts import Attempt
from leveret.plugins.webhooks.outgoing.client import Connection, Reply
from leveret.plugins.webhooks.outgoing.connector import RequestFailed
from leveret.plugins.webhooks.outgoing.handshake import Refused, shake_hands
from leveret.plugins.webhooks.outgoing.retry_policy import retry_after_s
from leveret.plugins.webhooks.outgoing.retry_store import Retry, RetryStore
from leveret.plugins.webhooks.outgoing.scheduler import DeliveryScheduler, PendingDelivery
from leveret.plugins.webhooks.outgoing.sender import Sender
from leveret.plugins.webhooks.outgoing.subscription import TemplateRefused
from leveret.plugins.webhooks.outgoing.throttle import Throttle, pause_s

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
    from leveret.core.timers import Timer
    from leveret.plugins.webhooks.outgoing.webhook import Webhook
__all__ = ["WorkerPool"]

log = logging.getLogger(__name__)

IDLE_S = 20.0  # how long a worker without work keeps its connection
GRACE_S = 3.0  # for requests under way when the subscription changes or the broker stops
REFUSED_AGAIN_S = 60.0  # between two attempts at a dead-letter queue that refuses messages
HANDSHAKE_AGAIN_S, HANDSHAKE_SELDOM_S = (
    5.0,
    600.0,
)  # between failed handshakes: the first and the longest delay
MIN_WINDOW = 32  # messages received ahead, beside those that wait, so that workers do not wait for the queue


@dataclass(slots=True, eq=False)
class Worker:
    """A task with a connection of its own. pending: what it is to send next; wake: where it waits for that."""

    connection: Connection
    pending: PendingDelivery | None = None
    wake: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)


class WorkerPool:
    """Works on a queue for one version of a subscription, with up to `concurrency` workers. Counters and records are the webhook's."""

    def __init__(self, webhook: Webhook, queue: Queue) -> None:
        self.webhook = webhook
        self.queue = queue
        self.subscription = webhook.subscription
        subscription = self.subscription
        self._timers = queue.services.timers
        self._sender = Sender(subscription, webhook.connector)
        self._retries: RetryStore = webhook.retries_of(queue)
        self._window = max(MIN_WINDOW, 2 * subscription.concurrency)
        self._deliveries: Deliveries | None = None
        self._nursery: trio.Nursery | None = None
        self._scheduler = DeliveryScheduler(subscription.order_by, self._on_parked)
        self._running = 0
        self._idle: list[Worker] = []
        self._under_way: set[trio.CancelScope] = set()
        self.is_stopping = False  # no request is started
        paused_until = webhook.state.paused_until
        self._throttle = Throttle(
            subscription, 0.0 if paused_until is None else self._timers.monotonic(paused_until)
        )
        self._timer: Timer | None = None

    # -- lifetime

    async def run(self) -> None:
        """Deliver until cancelled or the queue is deleted; requests under way then have a few seconds to end."""
        if self.subscription.origin:
            await self._shake_hands(self.subscription.origin)
        facts = {"name": f"webhook {self.subscription.name}", "user": ""}
        async with (
            consume_queue(
                self.queue, credit=self._window, max_bytes=self.webhook.max_bytes, counts=False, facts=facts
            ) as self._deliveries,
            trio.open_nursery() as self._nursery,
        ):
            try:
                async for delivery in self._deliveries:
                    self._accept(delivery)
                    self._advance()
            finally:
                self._stop()

    async def _shake_hands(self, origin: str) -> None:
        """Ask until the endpoint agrees, at growing intervals. Messages stay in the queue."""
        delay_s = HANDSHAKE_AGAIN_S
        while True:
            try:
                rate = await shake_hands(self._sender, origin)
            except Refused as refused:
                if self.webhook.waits_for != str(refused):
                    log.warning(
                        "webhook=%s waits for the endpoint's consent: %s", self.subscription.name, refused
                    )
                self.webhook.waits_for = str(refused)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, HANDSHAKE_SELDOM_S)
                continue
            self.webhook.waits_for = ""
            if rate is not None:
                self._throttle.limit(rate)
            return

    def _stop(self) -> None:
        self.is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        deadline = trio.current_time() + GRACE_S
        for scope in self._under_way:
            scope.deadline = min(scope.deadline, deadline)
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def activity(self) -> dict[str, Any]:
        """What is going on at the moment, for answers."""
        now = trio.current_time()
        return {
            "in_flight": self._running,
            "retrying": self._scheduler.waiting_count,
            "waiting": self._scheduler.parked - self._scheduler.waiting_count,
            "is_backpressured": self._scheduler.parked >= self.subscription.max_retrying,
            "paused_for_s": round(max(0.0, self._throttle.paused_until - now), 3),
            "circuit_breaker": self._throttle.breaker_state,
        }

    @property
    def first_failure_ms(self) -> int | None:
        return self._scheduler.first_failure_ms

    # -- receiving

    def _accept(self, delivery: Delivery) -> None:
        message = delivery.message
        retry = self._retries.get(message)
        if retry is None:
            pending = PendingDelivery(delivery, self.webhook.webhook_id(message))
        else:
            pending = PendingDelivery(
                delivery, retry.webhook_id, attempts=retry.attempts, first_at=retry.first_at,
                next_at=self._timers.monotonic(retry.next_at), status=retry.status, reason=retry.reason,
            )  # fmt: skip
        self._scheduler.accept(pending, trio.current_time())

    def _on_parked(self, count: int) -> None:
        """Messages that wait do not use up the window of the others, up to `max_retrying`."""
        if self._deliveries is not None:
            self._deliveries.credit = self._window + min(count, self.subscription.max_retrying)

    # -- starting requests

    def _advance(self) -> None:
        """Start all requests that may start. Called after every change."""
        while self._running < self.subscription.concurrency and not self.is_stopping:
            pending = self._take()
            if pending is None:
                return
            self._running += 1
            if self._idle:
                worker = self._idle.pop()
                worker.pending = pending
                worker.wake.unpark()
            else:
                worker = Worker(self._sender.connection(), pending)
                assert self._nursery is not None
                self._nursery.start_soon(self._work, worker, name=f"webhook {self.subscription.name}")

    def _take(self) -> PendingDelivery | None:
        """The next delivery that may start now; None, with the timer set for the next one that may."""
        now, scheduler = trio.current_time(), self._scheduler
        while scheduler.has_due(now):
            wait = self._throttle.wait_s(now)
            if wait is None:
                break
            if wait > 0:
                self._wake_at(now + wait)
                return None
            pending = scheduler.pop()
            if self._is_expired(pending, now):
                self._dead_letter(pending, "expired", "")
                continue
            self._throttle.start()
            return pending
        if scheduler.next_at is not None:
            self._wake_at(scheduler.next_at)
        return None

    def _wake_at(self, when: float) -> None:
        timer = self._timer
        if timer is not None and timer.callback is not None:
            if timer.when <= when:
                return
            timer.cancel()
        self._timer = self._timers.at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self.is_stopping:
            self._advance()

    def _is_expired(self, pending: PendingDelivery, now: float) -> bool:
        expires_at = pending.delivery.message.expires_at
        if expires_at is not None and expires_at <= now:
            return True
        max_age_s = self.subscription.max_age_s
        return bool(
            max_age_s
            and pending.first_at
            and self._timers.wall_ms(now) >= pending.first_at + max_age_s * 1000
        )

    # -- requests and their results

    async def _work(self, worker: Worker) -> None:
        """Send requests one after the other; end after `IDLE_S` without one."""
        try:
            while True:
                pending, worker.pending = worker.pending, None
                if pending is None:
                    self._idle.append(worker)
                    with trio.move_on_after(IDLE_S):
                        await worker.wake.park()
                    if worker.pending is None:
                        self._idle.remove(worker)
                        return
                    continue
                await self._attempt(pending, worker.connection)
                self._running -= 1
                if not self.is_stopping:
                    worker.pending = self._take()
                    if worker.pending is not None:
                        self._running += 1
                    self._advance()
        finally:
            worker.connection.close()

    async def _attempt(self, pending: PendingDelivery, connection: Connection) -> None:
        started_at = trio.current_time()
        try:
            reply, failure = await self._request(pending, connection)
        except TemplateRefused as error:
            self._throttle.abandoned()
            self._dead_letter(pending, "template", str(error))
            return
        except Exception as error:  # an internal error must not stop the deliveries of other messages
            log.exception("webhook=%s id=%s cannot be sent", self.subscription.name, pending.webhook_id)
            reply, failure = None, RequestFailed("internal", f"{type(error).__name__}: {error}")
        if self._deliveries is None or self._deliveries.cancelled is not None:
            return  # the queue is deleted, and the message with it
        latency_s = trio.current_time() - started_at
        if reply is not None and 200 <= reply.status < 300:
            self._succeeded(pending, reply, latency_s)
        elif reply is not None or failure is not None:
            self._failed(pending, reply, failure, latency_s)
        # Neither: the request was cancelled; the message returns to the queue as if it had not been tried.

    async def _request(
        self, pending: PendingDelivery, connection: Connection
    ) -> tuple[Reply | None, RequestFailed | None]:
        """The answer or the failure; neither if the request was cancelled. Raise TemplateRefused."""
        delivery, sender = pending.delivery, self._sender
        headers, body = await sender.prepare(
            delivery.envelope, delivery.body, pending.webhook_id, pending.attempts + 1
        )
        # A request under way is not cancelled with the task: the endpoint may have received it already.
        with trio.CancelScope(shield=True) as scope:
            self._under_way.add(scope)
            if self.is_stopping:
                scope.deadline = trio.current_time() + GRACE_S
            try:
                return await sender.send(connection, headers, body), None
            except RequestFailed as error:
                return None, error
            finally:
                self._under_way.discard(scope)
        return None, None

    def _succeeded(self, pending: PendingDelivery, reply: Reply, latency_s: float) -> None:
        self._throttle.succeeded(trio.current_time())
        pending.attempts += 1
        pending.delivery.ack()
        if pending.attempts > 1:
            self._retries.delete(pending.delivery.message)
        self._record(pending, "delivered", reply, "", self._sender.shown(reply.note), latency_s)
        self.webhook.succeeded(pending.attempts)
        self._scheduler.release(pending, trio.current_time())

    def _failed(
        self, pending: PendingDelivery, reply: Reply | None, failure: RequestFailed | None, latency_s: float
    ) -> None:
        """Schedule another attempt, or dead-letter the message."""
        subscription = self.subscription
        now = trio.current_time()
        now_ms = self._timers.wall_ms(now)
        self._throttle.failed(now)
        pending.attempts += 1
        pending.first_at = pending.first_at or now_ms
        pending.status = reply.status if reply is not None else None
        pending.reason = failure.reason if failure is not None else "status"
        error = f"the answer was {pending.status}" if failure is None else self._sender.shown(str(failure))
        self.webhook.failed(pending.attempts, pending.reason, pending.status, now_ms)
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
            if self._is_expired(pending, pending.next_at):
                verdict = "expired"
        if verdict:
            self._dead_letter(pending, verdict, error, reply, latency_s)
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
            self.webhook.disable("the endpoint answered 410 Gone")
        else:
            self.webhook.disable_if_failing_too_long(now_ms)

    def _pause(self, reply: Reply | None, delay_s: float, now: float) -> float:
        """The delay in seconds that the answer asks for (Retry-After). Statuses that concern all messages pause all of them."""
        if reply is None:
            return 0.0
        asked_s = retry_after_s(_header(reply, "retry-after"), time.time())
        if asked_s is not None:
            asked_s = min(asked_s, self.subscription.max_retry_after_s)
        rest_s = pause_s(reply.status, asked_s, delay_s)
        if rest_s is not None and self._throttle.pause(now + rest_s):
            self.webhook.pause(self._timers.wall_ms(now + rest_s))
        return asked_s or 0.0

    def _dead_letter(
        self,
        pending: PendingDelivery,
        reason: str,
        error: str,
        reply: Reply | None = None,
        latency_s: float = 0.0,
    ) -> None:
        """Move the message into the dead-letter queue, in one commit."""
        message = pending.delivery.message
        if not self.webhook.dead_letter(
            message, pending.webhook_id, reason, pending.status, pending.attempts, error or pending.reason
        ):
            pending.next_at = trio.current_time() + REFUSED_AGAIN_S
            self._scheduler.wait(pending)
            self._wake_at(pending.next_at)
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
        attempts, envelope = self.webhook.attempts, pending.delivery.envelope
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
                error[:512],
                self._sender.snippet(reply),
                next_at,
            )
        )


def _header(reply: Reply, name: str) -> str | None:
    return reply.headers.get(name)
