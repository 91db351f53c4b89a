"""Messaging by REST, below /v1: publish, receive, streams of events, requests with replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext
__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    """The handlers' docstrings say in their first line what they do."""
    from aiohttp import web

    from leveret.adapters.http.messaging.events import Events
    from leveret.adapters.http.messaging.idempotency import Idempotency
    from leveret.adapters.http.messaging.leases import Leases
    from leveret.adapters.http.messaging.messages import Messages
    from leveret.adapters.http.messaging.receiving import Receiving
    from leveret.adapters.http.messaging.requests import Requests
    from leveret.adapters.http.messaging.stopping import AtStop
    from leveret.adapters.http.messaging.streams import Streams
    from leveret.adapters.http.metrics.messaging import MessagingNumbers

    at_stop = AtStop(context)
    idempotency, leases, streams = Idempotency(context), Leases(context, at_stop), Streams(context.broker)
    context.measured.append(MessagingNumbers(leases, streams, idempotency))
    messages = Messages(context, idempotency)
    receiving = Receiving(context, leases, at_stop)
    events = Events(context, streams, at_stop)
    requests = Requests(context, at_stop)
    exchange, queue = "/v1/exchanges/{vhost}/{exchange}", "/v1/queues/{vhost}/{queue}"
    return [
        web.post(f"{exchange}/messages", messages.publish),
        web.post(f"{exchange}/messages/batch", messages.publish_batch),
        web.post(f"{exchange}/requests", requests.ask),
        web.get(f"{exchange}/events", events.of_exchange),
        web.post(f"{queue}/messages", messages.publish),
        web.post(f"{queue}/messages/batch", messages.publish_batch),
        web.post(f"{queue}/requests", requests.ask),
        web.post(f"{queue}/receive", receiving.receive),
        web.get(f"{queue}/events", events.of_queue),
        web.post("/v1/leases/{verb}", receiving.settle_many),
        web.post("/v1/leases/{lease}/{verb}", receiving.settle),
        web.post("/v1/events/ack", events.acknowledge),
    ]
