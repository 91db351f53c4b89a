"""Declaring and deleting exchanges."""

from __future__ import annotations

from leveret.auth.contracts import Permission
from leveret.core.definitions import records
from leveret.core.equivalence import assert_equal_arguments, assert_equal_field, describe_resource
from leveret.core.errors import AccessRefused, PreconditionFailed
from leveret.core.exchange import Arguments, Exchange
from leveret.core.topology.checks import (
    RESERVED,
    TopologySession,
    check_new_name,
    check_not_default,
    check_target,
    require_exchange,
)

__all__ = ["declare_exchange", "delete_exchange"]


def declare_exchange(
    session: TopologySession,
    name: str,
    type: str = "direct",
    *,
    passive: bool = False,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Arguments | None = None,
) -> Exchange:
    """Declare an exchange, or check that it is there (AMQP 1.7.2.1).

    Args:
        type: the name of an exchange type.
        passive: only look whether it exists.

    Raises:
        NotFound: passive, and it does not exist.
        PreconditionFailed: it exists with other properties.
        InvalidArgument, AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost, arguments = session.vhost, arguments or {}
    if passive:
        check_not_default(name)
        session.require_any("exchange", name)
        return require_exchange(vhost, name)
    exchange_type = vhost.services.registry.exchange_type(type)  # first, even for one that exists
    check_not_default(name)
    session.require(Permission.CONFIGURE, "exchange", name)
    existing = vhost.exchanges.get(name)
    thing = describe_resource("exchange", name, vhost.name)
    if existing is not None:
        assert_equal_field(thing, "type", existing.type, type)
        assert_equal_field(thing, "durable", existing.is_durable, durable)
        assert_equal_field(thing, "auto_delete", existing.is_auto_delete, auto_delete)
        assert_equal_field(thing, "internal", existing.is_internal, internal)
        assert_equal_arguments(thing, ("alternate-exchange",), existing.arguments, arguments)
        return existing
    check_new_name("exchange", name)
    check_target(session, "exchange", name, arguments, "alternate-exchange")
    records.check_storable(thing, arguments)
    exchange = Exchange(
        vhost,
        name,
        type,
        exchange_type(arguments),
        durable=durable,
        auto_delete=auto_delete,
        internal=internal,
        arguments=arguments,
    )
    vhost.add_exchange(exchange)
    return exchange


def delete_exchange(session: TopologySession, name: str, *, if_unused: bool = False) -> None:
    """Delete an exchange with its bindings; one that does not exist is deleted already.

    Raises:
        PreconditionFailed: it has bindings, and if_unused.
        AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost = session.vhost
    check_not_default(name)
    thing = describe_resource("exchange", name, vhost.name)
    if name.startswith(RESERVED):
        raise AccessRefused(f"deletion of system {thing} not allowed")
    session.require(Permission.CONFIGURE, "exchange", name)
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        return
    if if_unused and exchange.bindings:
        raise PreconditionFailed(f"{thing} in use")
    vhost.remove_exchange(exchange)
