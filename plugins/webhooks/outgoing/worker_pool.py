"""Delivers the messages of a webhook: consumes its queue and sends requests, with several workers.

A message stays unsettled in its queue until it is delivered or dead-lettered. After a failure it waits for its next attempt, which is
recorded in the `RetryStore`. At most `max_retrying` messages wait; then no more are consumed, and the rest stays in the queue, on the
disk. The `DeliveryScheduler` decides which message is next, the `Throttle` when a request may start, and `DeliveryResults` what follows
from its result. They are synchronous, and so is everything here except `run` and the workers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from leveret.core.deliveries import Deliveries, Delivery, consume_queue
from leveret.plugins.webhooks.outgoing.client import Connection, Reply
from leveret.plugins.webhooks.outgoing.connector import RequestFailed
from leveret.plugins.webhooks.outgoing.delivery_results import DeliveryResults
from leveret.plugins.webhooks.outgoing.handshake import HandshakeRefused, shake_hands
from leveret.plugins.webhooks.outgoing.retry_store import RetryStore
from leveret.plugins.webhooks.outgoing.scheduler import DeliveryScheduler, PendingDelivery
from leveret.plugins.webhooks.outgoing.sender import Sender
from leveret.plugins.webhooks.outgoing.subscription import TemplateRefused
from leveret.plugins.webhooks.outgoing.throttle import Throttle

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
    from leveret.core.timers import Timer
    from leveret.plugins.webhooks.outgoing.webhook import Webhook
__all__ = ["WorkerPool"]

log = logging.getLogger(__name__)

IDLE_S = 20.0  # how long a worker without work keeps its connection
GRACE_S = 3.0  # for requests that are under way when the subscription changes or the broker stops
HANDSHAKE_DELAY_S, MAX_HANDSHAKE_DELAY_S = (
    5.0,
    600.0,
)  # between failed handshakes: the first and the longest delay
MIN_WINDOW = 32  # messages received in advance, in addition to those that wait, so that workers need not wait for the queue


@dataclass(slots=True, eq=False)
class Worker:
    """A task with its own connection. pending: the delivery to send next; wake: where an idle worker waits for one."""

    connection: Connection
    pending: PendingDelivery | None = None
    wake: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)


class WorkerPool:
    """Delivers the messages of a queue for one version of a subscription, with up to `concurrency` workers.

    Counters and records belong to the webhook, which outlives the pool.
    """

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
        self._results = DeliveryResults(
            webhook, self._timers, self._sender, self._throttle, self._scheduler, self._retries
        )

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
        """Ask at growing intervals until the endpoint accepts the origin. Messages stay in the queue until then."""
        delay_s = HANDSHAKE_DELAY_S
        while True:
            try:
                rate = await shake_hands(self._sender, origin)
            except HandshakeRefused as refused:
                if self.webhook.waits_for != str(refused):
                    log.warning(
                        "webhook=%s waits until the endpoint accepts its origin: %s",
                        self.subscription.name,
                        refused,
                    )
                self.webhook.waits_for = str(refused)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_HANDSHAKE_DELAY_S)
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
        """The current activity, for answers of the API."""
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
        """Increase the credit by the number of waiting messages, up to `max_retrying`, so that they do not block others."""
        if self._deliveries is not None:
            self._deliveries.credit = self._window + min(count, self.subscription.max_retrying)

    # -- starting requests

    def _advance(self) -> None:
        """Start all requests that may start now. Called after each change."""
        while self._running < self.subscription.concurrency and not self.is_stopping:
            pending = self._next_pending()
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

    def _next_pending(self) -> PendingDelivery | None:
        """The next delivery that may start now. Without one, returns None, and sets the timer for the next one."""
        now, scheduler = trio.current_time(), self._scheduler
        while scheduler.has_due(now):
            wait = self._throttle.wait_s(now)
            if wait is None:
                break
            if wait > 0:
                self._wake_at(now + wait)
                return None
            pending = scheduler.pop()
            if self._results.is_expired(pending, now):
                self._results.dead_letter(pending, "expired", "")
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

    # -- requests

    async def _work(self, worker: Worker) -> None:
        """Send requests one after the other. The worker ends after `IDLE_S` without one."""
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
                    worker.pending = self._next_pending()
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
            self._results.dead_letter(pending, "template", str(error))
            return
        except Exception as error:  # an internal error must not stop the deliveries of other messages
            log.exception("webhook=%s id=%s cannot be sent", self.subscription.name, pending.webhook_id)
            reply, failure = None, RequestFailed("internal", f"{type(error).__name__}: {error}")
        if self._deliveries is None or self._deliveries.cancelled is not None:
            return  # the queue is deleted, and the message with it
        latency_s = trio.current_time() - started_at
        if reply is not None and 200 <= reply.status < 300:
            self._results.succeeded(pending, reply, latency_s)
        elif reply is not None or failure is not None:
            self._results.failed(pending, reply, failure, latency_s)
        # With neither, the request was cancelled: the message returns to the queue as if no attempt had been made.

    async def _request(
        self, pending: PendingDelivery, connection: Connection
    ) -> tuple[Reply | None, RequestFailed | None]:
        """Send an attempt. Returns the answer or the failure, or neither if the request was cancelled. Raise TemplateRefused."""
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
