"""channel.*, access.*, confirm.* and tx.*: what concerns the channel itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.confirms import Confirms
from leveret.adapters.amqp.faults import ChannelFault, ConnectionFault
from leveret.adapters.amqp.methods import Method
from leveret.adapters.amqp.transactions import Transaction

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
__all__ = ["HANDLERS"]


def on_open(channel: Channel, method: methods.ChannelOpen) -> None:
    raise ConnectionFault(504, "second 'channel.open' seen")


def on_close(channel: Channel, method: methods.ChannelClose) -> None:
    """Unacked messages are back in their queues before the peer sees close-ok."""
    channel.release()
    channel.send(methods.ChannelCloseOk())
    channel.connection.forget_channel(channel.number)


def on_close_ok(channel: Channel, method: methods.ChannelCloseOk) -> None:
    """Nobody asked: ignored."""


def on_flow(channel: Channel, method: methods.ChannelFlow) -> None:
    if not method.active:
        raise ConnectionFault(540, "active=false")
    channel.send(methods.ChannelFlowOk(active=True))


def on_flow_ok(channel: Channel, method: methods.ChannelFlowOk) -> None:
    """We never ask; ignored."""


def on_access_request(channel: Channel, method: methods.AccessRequest) -> None:
    """Old clients still ask; every ticket is number 1."""
    channel.send(methods.AccessRequestOk(ticket=1))


def on_confirm_select(channel: Channel, method: methods.ConfirmSelect) -> None:
    if channel.transaction is not None:
        raise ChannelFault(406, "cannot switch from tx to confirm mode")
    if channel.confirms is None:
        channel.confirms = Confirms(channel.number, channel.outbox, channel.broker.store)
    if not method.nowait:
        channel.send(methods.ConfirmSelectOk())


def on_tx_select(channel: Channel, method: methods.TxSelect) -> None:
    if channel.confirms is not None:
        raise ChannelFault(406, "cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction(channel)
    channel.send(methods.TxSelectOk())


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise ChannelFault(406, "channel is not transactional")
    return channel.transaction


def on_tx_commit(channel: Channel, method: methods.TxCommit) -> None:
    """commit-ok after everything is durable; what follows on this connection waits behind it."""
    if _transaction(channel).commit():
        raise ChannelFault(406, "partial tx completion")
    channel.connection.hold_until_durable()
    channel.send(methods.TxCommitOk())


def on_tx_rollback(channel: Channel, method: methods.TxRollback) -> None:
    _transaction(channel).rollback()
    channel.send(methods.TxRollbackOk())


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.ChannelOpen: on_open,
    methods.ChannelClose: on_close,
    methods.ChannelCloseOk: on_close_ok,
    methods.ChannelFlow: on_flow,
    methods.ChannelFlowOk: on_flow_ok,
    methods.AccessRequest: on_access_request,
    methods.ConfirmSelect: on_confirm_select,
    methods.TxSelect: on_tx_select,
    methods.TxCommit: on_tx_commit,
    methods.TxRollback: on_tx_rollback,
}
