"""Health checks: 200 `{"status": "ok"}`, or 503 with a reason."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.management.certificates import not_after
from leveret.adapters.http.management.nodes import check_node
from leveret.adapters.http.management.routes import NO_CACHE, Call, Route

__all__ = ["ROUTES"]

OK = {"status": "ok"}
RESOURCES = {"memory": "memory", "disk": "disk"}
UNITS = {"days": 1, "weeks": 7, "months": 30, "years": 365}


def failed(reason: str, **more: Any) -> web.Response:
    return json_response({"status": "failed", "reason": reason, **more}, 503, NO_CACHE)


def _alarms(call: Call, where: str) -> Any:
    alarms = call.broker.alarms.alarms
    if not alarms:
        return OK
    node = call.broker.node_name
    return failed(
        f"There are alarms in effect {where}",
        alarms=[{"node": node, "resource": RESOURCES.get(name, name)} for name in sorted(alarms)],
    )


async def alarms(call: Call) -> Any:
    """No alarm is in effect in the cluster."""
    return _alarms(call, "in the cluster")


async def local_alarms(call: Call) -> Any:
    """No alarm is in effect on this node."""
    return _alarms(call, "on the node")


async def certificate_expiration(call: Call) -> Any:
    """No certificate of a listener expires within so many days, weeks, months or years."""
    unit, text = call.part("unit"), call.part("within")
    if unit not in UNITS:
        raise Refusal(
            400, "bad_request", "Time unit not recognised. Supported units: days, weeks, months, years."
        )
    if re.fullmatch(r"-?[0-9]{1,9}", text) is None:
        raise Refusal(400, "bad_request", "Invalid expiration value.")
    broker = call.broker
    listeners = [listener for listener in broker.listeners if listener.is_tls]
    if not listeners:
        return OK
    now = datetime.datetime.now(datetime.UTC)
    latest = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    until = now + datetime.timedelta(days=min(int(text) * UNITS[unit], (latest - now).days))
    tls = broker.settings.tls
    expired: dict[str, str] = {}
    for key in ("certfile", "cafile"):
        path = getattr(tls, key)
        try:
            dates = not_after(Path(path)) if path else []
        except (OSError, ValueError) as error:
            return failed(f"{key} cannot be read: {error}")
        if dates and min(dates) <= until:
            expired[f"{key}_expires_on"] = min(dates).strftime("%Y-%m-%d %H:%M:%S")
    if not expired:
        return OK
    return failed(
        "Certificates expiring",
        expired=[
            {
                "node": broker.node_name,
                "protocol": listener.spec.protocol,
                "interface": listener.host,
                "port": listener.port,
                "certfile": tls.certfile,
                "cacertfile": tls.cafile,
                **expired,
            }
            for listener in listeners
        ],
    )


async def port_listener(call: Call) -> Any:
    """Check that a listener is open on the port."""
    text = call.part("port")
    if not text.isascii() or not text.isdigit():
        raise Refusal(400, "bad_request", "Invalid port")
    port, ports = int(text), [listener.port for listener in call.broker.listeners]
    if port in ports:
        return {"status": "ok", "port": port}
    return failed("No active listener", missing=port, ports=ports)


async def protocol_listener(call: Call) -> Any:
    """Check that there are listeners for the protocols, which are separated by commas."""
    listening = [listener.spec.protocol for listener in call.broker.listeners]
    protocols = {
        word: spec.protocol
        for adapter in call.broker.adapters
        for spec in adapter.listeners
        for word in spec.words
    }
    wanted = [name.strip().lower() for name in call.part("protocol").split(",")]
    missing = [one for name in wanted if (one := protocols.get(name, name)) not in listening]
    if not missing:
        found = [protocols.get(name, name) for name in wanted]
        return {"status": "ok", "protocols": found, "protocol": ",".join(found)}
    return failed(
        "No active listener", missing=missing[0] if len(missing) == 1 else missing, protocols=listening
    )


async def virtual_hosts(call: Call) -> Any:
    """Check that all virtual hosts are up."""
    return OK


async def is_critical(call: Call) -> Any:
    """Check that no queue would lose its quorum without this node."""
    return {"status": "ok", "reason": "single node cluster"}


async def in_service(call: Call) -> Any:
    """Check that the node is up and not shutting down."""
    if call.context.is_stopping:
        return failed("this node is being shut down")
    return OK


async def below_connection_limit(call: Call) -> Any:
    """Check that the limit of connections is not reached."""
    limit, count = call.broker.settings.limits.connection_max, len(call.broker.connections)
    if limit and count >= limit:
        return failed("node connection limit is reached", connections=count)
    return OK | {"connections": count}


async def ready_to_serve_clients(call: Call) -> Any:
    """Check that the node is up, listens and accepts more clients."""
    answer = await in_service(call)
    return answer if answer is not OK else await below_connection_limit(call)


async def cluster_size(call: Call) -> Any:
    """Check that the cluster has its expected size, which is one node."""
    return OK | {"target_cluster_size": 1, "running_cluster_size": 1}


async def metadata_store(call: Call) -> Any:
    """Check that definitions are recovered; listeners open only after that."""
    return OK


async def queues_without_leaders(call: Call) -> Any:
    """Check that every queue has a leader, which is this node."""
    return OK


async def node_health(call: Call) -> Any:
    """The old check of everything; deprecated in RabbitMQ."""
    if "node" in call.request.match_info:
        check_node(call)
    alarms = sorted(call.broker.alarms.alarms)
    if alarms:
        return {"status": "failed", "reason": f"resource alarm(s) in effect: [{','.join(alarms)}]"}
    return OK


async def aliveness(call: Call) -> Any:
    """The old check of a virtual host: that it can be entered."""
    await call.vhost()
    return OK


CHECKS = "/health/checks"
ROUTES = (
    Route("GET", f"{CHECKS}/alarms", alarms),
    Route("GET", f"{CHECKS}/local-alarms", local_alarms),
    Route("GET", f"{CHECKS}/certificate-expiration/{{within}}/{{unit}}", certificate_expiration),
    Route("GET", f"{CHECKS}/port-listener/{{port}}", port_listener),
    Route("GET", f"{CHECKS}/protocol-listener/{{protocol}}", protocol_listener),
    Route("GET", f"{CHECKS}/virtual-hosts", virtual_hosts),
    Route("GET", f"{CHECKS}/node-is-quorum-critical", is_critical),
    Route("GET", f"{CHECKS}/node-is-mirror-sync-critical", is_critical),
    # For load balancers, which have no password.
    Route("GET", f"{CHECKS}/is-in-service", in_service, needs=""),
    Route("GET", f"{CHECKS}/ready-to-serve-clients", ready_to_serve_clients, needs=""),
    Route("GET", f"{CHECKS}/below-node-connection-limit", below_connection_limit, needs=""),
    Route("GET", f"{CHECKS}/reached-target-cluster-size", cluster_size),
    Route("GET", f"{CHECKS}/metadata-store/initialized", metadata_store),
    Route("GET", f"{CHECKS}/metadata-store/initialized/with-data", metadata_store),
    Route("GET", f"{CHECKS}/quorum-queues-without-elected-leaders/all-vhosts", queues_without_leaders),
    Route(
        "GET",
        f"{CHECKS}/quorum-queues-without-elected-leaders/all-vhosts/pattern/{{pattern}}",
        queues_without_leaders,
    ),
    Route("GET", f"{CHECKS}/quorum-queues-without-elected-leaders/vhost/{{vhost}}", queues_without_leaders),
    Route(
        "GET",
        f"{CHECKS}/quorum-queues-without-elected-leaders/vhost/{{vhost}}/pattern/{{pattern}}",
        queues_without_leaders,
    ),
    Route("GET", "/healthchecks/node", node_health),
    Route("GET", "/healthchecks/node/{node}", node_health),
    Route("GET", "/aliveness-test/{vhost}", aliveness),
)
