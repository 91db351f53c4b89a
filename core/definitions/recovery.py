"""Recovery of the durable topology from the store: virtual hosts, exchanges, queues with their logs, bindings, policies, parameters."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from leveret.core.definitions import records
from leveret.core.errors import NotFound
from leveret.core.exchange import Binding, Exchange
from leveret.core.policy import Policy
from leveret.core.vhost import Vhost

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget, HasVhosts
    from leveret.core.queue.queue import Queue
__all__ = ["recover", "require_vhost"]

log = logging.getLogger(__name__)


def require_vhost(broker: HasVhosts, name: str) -> Vhost:
    """The virtual host of that name. Raise NotFound."""
    vhost = broker.vhosts.get(name)
    if vhost is None:
        raise NotFound(f"Virtual host '{name}' does not exist")
    return vhost


def recover(broker: DefinitionsTarget) -> None:
    """Create everything that the store has records of, before the broker does anything else; then delete logs that belong to no queue.

    A record that cannot be used is logged and left in the store; all others are recovered.
    """
    store = broker.store
    for record in records.read(store, "policy"):
        broker.policies.recovered(Policy(
            record["vhost"], record["name"], record["pattern"], json.loads(record["definition"]),
            record["apply_to"], int(record["priority"]), record["operators"],
        ))  # fmt: skip
    for record in _in_order(broker, "vhost"):
        broker.vhosts[record["name"]] = Vhost(
            broker.vhost_services,
            record["name"],
            description=record["description"],
            tags=record["tags"],
            default_queue_type=record["default_queue_type"],
            limits={name: int(limit) for name, limit in record["limits"].items()},
            is_protected=record.get("protected", False),
        )
    for record in records.read(store, "parameter"):
        if not record["component"]:
            broker.parameters[record["name"]] = json.loads(record["value"])
            continue
        vhost = broker.vhosts.get(record["vhost"])
        if vhost is not None:
            vhost.parameters[record["component"], record["name"]] = json.loads(record["value"])
    for record in _in_order(broker, "exchange"):
        _exchange(broker, record)
    log_ids: set[int] = set()
    for record in _in_order(broker, "queue"):
        log_ids.update(map(int, record["log_ids"]))
        _queue(broker, record)
    for record in records.read(store, "binding"):
        _binding(broker, record)
    for vhost in broker.vhosts.values():
        for queue in vhost.queues.values():
            log_ids.update(queue.log_ids)
            if _may_expire(queue):
                broker.dispatcher.schedule(queue)
    broker.dispatcher.run_soon()
    store.retain_logs(log_ids)
    if broker.vhosts:
        log.info(
            "recovered vhosts=%d queues=%d messages=%d",
            len(broker.vhosts),
            sum(len(vhost.queues) for vhost in broker.vhosts.values()),
            sum(queue.message_count for vhost in broker.vhosts.values() for queue in vhost.queues.values()),
        )


def _may_expire(queue: Queue) -> bool:
    """The queue's first message has a time to live, which may be over. Only this message is read."""
    for fifo in queue.fifos:
        first = fifo.log.read(0, 1, 1) if fifo.log is not None and fifo.count else ()
        if any(message.expires_at_ms is not None for message in first):
            return True
    return False


def _in_order(broker: DefinitionsTarget, kind: str) -> list[dict[str, Any]]:
    return sorted(
        records.read(broker.store, kind), key=lambda record: (record.get("vhost", ""), record["name"])
    )


def _exchange(broker: DefinitionsTarget, record: dict[str, Any]) -> None:
    vhost = broker.vhosts.get(record["vhost"])
    if vhost is None:
        log.error("exchange=%r vhost=%r: no such virtual host", record["name"], record["vhost"])
        return
    router = broker.registry.restore_exchange(
        record["type"], record["arguments"], exchange=record["name"], vhost=vhost.name
    )
    exchange = vhost.exchanges[record["name"]] = Exchange(
        vhost,
        record["name"],
        record["type"],
        router,
        durable=True,
        auto_delete=record["auto_delete"],
        internal=record["internal"],
        arguments=record["arguments"],
    )
    broker.policies.apply_to_exchange(exchange)


def _queue(broker: DefinitionsTarget, record: dict[str, Any]) -> None:
    vhost = broker.vhosts.get(record["vhost"])
    if vhost is None:
        log.error("queue=%r vhost=%r: no such virtual host", record["name"], record["vhost"])
        return
    log_ids = tuple(map(int, record["log_ids"]))
    facts: dict[str, Any] = {
        "durable": True, "exclusive": False, "auto_delete": record["auto_delete"], "arguments": record["arguments"],
        "type": record["type"],
    }  # fmt: skip
    try:
        vhost.add_queue(record["name"], log_ids=log_ids, **facts)
    except KeyError as missing:
        # The definition and its logs are written in one commit, so only a change of the files from outside can remove a log.
        log.error(
            "queue=%r vhost=%r log=%s is missing: the queue starts empty", record["name"], vhost.name, missing
        )
        vhost.add_queue(record["name"], **facts)


def _binding(broker: DefinitionsTarget, record: dict[str, Any]) -> None:
    vhost = broker.vhosts.get(record["vhost"])
    source = vhost.exchanges.get(record["source"]) if vhost is not None else None
    if vhost is None or source is None:
        log.error(
            "binding from=%r to=%r vhost=%r: no such source",
            record["source"],
            record["destination"],
            record["vhost"],
        )
        return
    things: dict[str, Any] = vhost.queues if record["kind"] == "queue" else vhost.exchanges
    destination = things.get(record["destination"])
    if destination is None:
        log.error(
            "binding from=%r to=%r vhost=%r: no such destination",
            source.name,
            record["destination"],
            vhost.name,
        )
        return
    vhost.bind(source, Binding(destination, record["routing_key"], record["arguments"]), is_recovered=True)
