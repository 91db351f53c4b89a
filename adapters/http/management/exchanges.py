"""Exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.bindings import BINDINGS, exchange_name, find_exchange
from leveret.adapters.http.management.details import Details
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.http.rates import EXCHANGE
from leveret.core.vhost import PREDECLARED

if TYPE_CHECKING:
    from leveret.core.exchange import Exchange
__all__ = ["EXCHANGES", "ROUTES"]

OURS = frozenset({"", *(name for name, _ in PREDECLARED)})


def _base(item: dict[str, Any], exchange: Exchange, view: PublishView) -> None:
    item.update(
        name=exchange.name,
        vhost=exchange.vhost.name,
        type=exchange.type,
        durable=exchange.is_durable,
        auto_delete=exchange.is_auto_delete,
        internal=exchange.is_internal,
        arguments=exchange.arguments,
    )
    if exchange.name in OURS:
        item["user_who_performed_action"] = "rmq-internal"
    if exchange.policy_name is not None:
        item["policy"] = exchange.policy_name


def _stats(item: dict[str, Any], exchange: Exchange, view: PublishView) -> None:
    """Not there at all before anything was published."""
    values = {
        name: value for name, value in zip(EXCHANGE.names, EXCHANGE.read(exchange), strict=True) if value
    }
    if values and not view.is_terse:
        stats = item["message_stats"] = {}
        details = Details(view.rates, EXCHANGE, view.rates.of(EXCHANGE, exchange))
        details.put(stats, values, view.ranges.msg_rates)


EXCHANGES: Table[Exchange] = Table(
    (
        Part(
            frozenset({
                "name", "vhost", "type", "durable", "auto_delete", "internal", "arguments", "policy",
                "user_who_performed_action",
            }),
            _base,
        ),
        Part(frozenset({"message_stats"}), _stats),
    ),
    lambda exchange: exchange.name,
    is_paged=True,
)  # fmt: skip


async def exchanges(call: Call) -> Any:
    """Exchanges of the virtual hosts that the user may enter."""
    found = [one for vhost in await call.vhosts() for _, one in sorted(vhost.exchanges.items())]
    return await answer_list(call, found, EXCHANGES)


async def exchange(call: Call) -> dict[str, Any]:
    """One exchange; the default exchange is called amq.default."""
    found = find_exchange(await call.vhost(), call.part("exchange"))
    return EXCHANGES.item(found, PublishView(call)) | {"incoming": [], "outgoing": []}


async def bindings_from(call: Call) -> Any:
    """Bindings whose source is the exchange; an empty list if it does not exist."""
    vhost = await call.vhost()
    found = vhost.exchanges.get(exchange_name(call.part("exchange")))
    if found is None:
        return await answer_list(call, (), BINDINGS)
    if found is vhost.default_exchange:  # its bindings are nowhere but in the list of queues
        return await answer_list(call, (pair for pair in vhost.bindings() if pair[0] is found), BINDINGS)
    return await answer_list(call, ((found, one) for one in found.bindings.values()), BINDINGS)


async def bindings_to(call: Call) -> Any:
    """Bindings whose destination is the exchange; an empty list if it does not exist."""
    vhost = await call.vhost()
    found = vhost.exchanges.get(exchange_name(call.part("exchange")))
    return await answer_list(call, () if found is None else vhost.bindings_to(found), BINDINGS)


ROUTES = (
    Route("GET", "/exchanges", exchanges),
    Route("GET", "/exchanges/{vhost}", exchanges),
    Route("GET", "/exchanges/{vhost}/{exchange}", exchange),
    Route("GET", "/exchanges/{vhost}/{exchange}/bindings/source", bindings_from),
    Route("GET", "/exchanges/{vhost}/{exchange}/bindings/destination", bindings_to),
)
