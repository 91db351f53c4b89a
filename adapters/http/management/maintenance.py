"""What operators' scripts ask of a node: statistics reset, feature flags enabled, queues rebalanced."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.features import FLAGS
from leveret.adapters.http.management.nodes import check_node
from leveret.adapters.http.management.payloads import bad_request, done
from leveret.adapters.http.management.routes import Call, Route

__all__ = ["ROUTES"]


async def reset_attempts(call: Call) -> web.Response:
    """Count logins from zero."""
    check_node(call)
    call.broker.auth.attempts.reset()
    return done()


async def reset_statistics(call: Call) -> web.Response:
    """Forget samples and what things counted that are gone; counters of what is there go on."""
    if "node" in call.request.match_info:
        check_node(call)
    call.context.rates.reset()
    return done()


async def rebalance(call: Call) -> web.Response:
    """Spread the leaders of queues over the nodes: there is one."""
    return done()


async def enable_flag(call: Call) -> web.Response:
    """Enable a feature flag: those that there are, are."""
    if call.part("name") not in FLAGS:
        raise bad_request("unsupported")
    return done()


ROUTES = (
    Route("DELETE", "/auth/attempts/{node}", reset_attempts, needs="monitoring"),
    Route("DELETE", "/auth/attempts/{node}/source", reset_attempts, needs="monitoring"),
    Route("DELETE", "/reset", reset_statistics, needs="administrator"),
    Route("DELETE", "/reset/{node}", reset_statistics, needs="administrator"),
    Route("POST", "/rebalance/queues", rebalance, needs="administrator"),
    Route("PUT", "/feature-flags/{name}/enable", enable_flag, needs="administrator"),
)
