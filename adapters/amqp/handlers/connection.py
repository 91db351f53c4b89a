"""connection.*: methods on channel 0 of a running connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.methods import Method
from leveret.adapters.connection import ConnectionState

if TYPE_CHECKING:
    from leveret.adapters.amqp.connection import AmqpConnection
__all__ = ["HANDLERS"]


def on_close(connection: AmqpConnection, method: methods.ConnectionClose) -> None:
    """All channels give back what they hold, then the answer."""
    connection.release_channels()
    connection.move_to(ConnectionState.CLOSED)
    connection.parser.is_discarding = True
    connection.send(methods.ConnectionCloseOk())


def on_close_ok(connection: AmqpConnection, method: methods.ConnectionCloseOk) -> None:
    """Nobody asked: ignored, as RabbitMQ does."""


def on_update_secret(connection: AmqpConnection, method: methods.ConnectionUpdateSecret) -> None:
    connection.defer(lambda: connection.handshake.update_secret(method.new_secret))


HANDLERS: dict[type[Method], Callable[[AmqpConnection, Any], None]] = {
    methods.ConnectionClose: on_close,
    methods.ConnectionCloseOk: on_close_ok,
    methods.ConnectionUpdateSecret: on_update_secret,
}
