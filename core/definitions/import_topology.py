"""Checks and steps of an import: exchanges, queues and bindings. Those that exist are left as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.core.definitions import records
from leveret.core.definitions.import_items import PlannedDestination, read_name, read_table, read_text
from leveret.core.definitions.names import RESERVED_PREFIX
from leveret.core.equivalence import describe_resource
from leveret.core.errors import ForeignArgument, InvalidArgument, NotFound
from leveret.core.exchange import Binding, Exchange
from leveret.core.queue.arguments import QUEUE_TYPES, check_queue_arguments

if TYPE_CHECKING:
    from leveret.core.definitions.import_context import ImportContext
    from leveret.core.json_object import JsonObject
__all__ = ["check_binding", "check_exchange", "check_queue"]


def check_exchange(context: ImportContext, item: JsonObject) -> None:
    """An exchange."""
    vhost, name = context.vhost_of(item), read_name(item)
    if not name or name.startswith(RESERVED_PREFIX) or context.router(vhost, name) is not None:
        return
    type, arguments = read_text(item, "type"), read_table(item)
    thing = describe_resource("exchange", name, vhost)
    if not isinstance(arguments.get("alternate-exchange", ""), str):
        raise InvalidArgument(f"invalid type for arg 'alternate-exchange' in {thing}")
    router = context.broker.registry.exchange_type(type)(arguments)
    records.check_storable(thing, arguments)
    context.routers[vhost, name] = router
    facts: dict[str, Any] = {
        "durable": item.flag("durable", True),
        "auto_delete": item.flag("auto_delete", False),
        "internal": item.flag("internal", False),
        "arguments": arguments,
    }

    def declare() -> None:
        host = context.find_vhost(vhost)
        if name not in host.exchanges:
            host.add_exchange(Exchange(host, name, type, router, **facts))

    context.add_step(declare)


def check_queue(context: ImportContext, item: JsonObject) -> None:
    """A queue. Streams are left out, with a warning."""
    vhost, name = context.vhost_of(item), read_name(item)
    if not name or name.startswith(RESERVED_PREFIX) or context.has_queue(vhost, name):
        return
    durable, auto_delete = item.flag("durable", True), item.flag("auto_delete", False)
    arguments = read_table(item)
    thing = describe_resource("queue", name, vhost)
    given = arguments.get("x-queue-type", read_text(item, "type", "classic"))
    if given == "stream":
        context.warn(f"{thing} is left out: streams are not supported")
        return
    if given == "quorum":
        arguments["x-queue-type"] = given  # a client that declares the queue again sends this argument
        if auto_delete or not durable:
            what = "auto-delete" if auto_delete else "non-durable"
            raise InvalidArgument(f"invalid property '{what}' for {thing}")
    queue_type = given if given in QUEUE_TYPES else "classic"
    try:
        check_queue_arguments(thing, queue_type, arguments)
    except ForeignArgument as error:
        context.warn(f"{error}: it has no effect")
    records.check_storable(thing, arguments)
    context.queues.add((vhost, name))

    def declare() -> None:
        host = context.find_vhost(vhost)
        if name not in host.queues:
            host.add_queue(
                name,
                durable=durable,
                exclusive=False,
                auto_delete=auto_delete,
                arguments=arguments,
                type=queue_type,
            )

    context.add_step(declare)


def check_binding(context: ImportContext, item: JsonObject) -> None:
    """A binding. It is left out, with a warning, if its source or destination does not exist."""
    vhost, source, destination = (
        context.vhost_of(item),
        read_name(item, "source"),
        read_name(item, "destination"),
    )
    kind, key, arguments = (
        read_text(item, "destination_type"),
        read_name(item, "routing_key"),
        read_table(item),
    )
    if not source:
        return  # bindings of the default exchange are implicit
    if kind not in ("queue", "exchange"):
        raise InvalidArgument("destination_type must be queue or exchange")
    router = context.router(vhost, source)
    exists = context.has_queue if kind == "queue" else lambda *names: context.router(*names) is not None
    what = f"binding from exchange '{source}' to {kind} '{destination}' in vhost '{vhost}'"
    if router is None or not exists(vhost, destination):
        context.warn(f"{what} is left out: its source or its destination does not exist")
        return
    router.validate(Binding(PlannedDestination(destination, kind), key, arguments))
    records.check_storable(f"binding from {describe_resource('exchange', source, vhost)}", arguments)

    def bind() -> None:
        host = context.find_vhost(vhost)
        target = (host.queues if kind == "queue" else host.exchanges).get(destination)
        exchange = host.exchanges.get(source)
        if target is None or exchange is None:
            raise NotFound(what)
        host.bind(exchange, Binding(target, key, arguments))

    context.add_step(bind)
