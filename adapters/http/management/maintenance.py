"""What operators' scripts ask of a node: statistics reset, feature flags enabled, queues rebalanced."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.features import FLAGS
from leveret.adapters.http.management.nodes import check_node
from leveret.adapters.http.management.payloads import bad_request, done
from leveret.adapters.http.management.routes import Call, Route

__all__ = ["ROUTES"]


async def reset_attempts(call: Call) -> web.Response:
    """Reset the counters of logins."""
    check_node(call)
    call.broker.auth.attempts.reset()
    return done()


async def reset_statistics(call: Call) -> web.Response:
    """Discard samples, and the counts of deleted objects; the counters of existing objects continue."""
    if "node" in call.request.match_info:
        check_node(call)
    call.context.rates.reset()
    return done()


async def rebalance(call: Call) -> web.Response:
    """Rebalance the leaders of queues: no effect, since there is one node."""
    return done()


async def enable_flag(call: Call) -> web.Response:
    """Enable a feature flag; all existing flags are enabled already."""
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
