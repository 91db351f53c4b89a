"""What each frame of a client does: from the parser's calls to publisher, subscriptions, settlements, transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leveret.adapters.connection import ConnectionState
from leveret.adapters.stomp.faults import StompFault, fault_of
from leveret.adapters.stomp.frames import Frame
from leveret.adapters.stomp.settings import StompSettings
from leveret.core.errors import BrokerError

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
    from leveret.adapters.stomp.parser import SendHead
__all__ = ["Commands"]

CONNECT = ("CONNECT", "STOMP")


class Commands:
    """The frames of one connection (FrameHandler). What they refuse is raised as StompFault, with the receipt."""

    __slots__ = ("_connection", "_started")

    def __init__(self, connection: StompConnection) -> None:
        self._connection = connection
        self._started: Callable[[], None] | None = None  # of the SUBSCRIBE that is being handled

    def on_first(self, command: str) -> None:
        connection = self._connection
        if not StompSettings.of(connection.settings).implicit_connect:
            raise StompFault("Illegal command", "You must log in using CONNECT first")
        connection.defer(lambda: connection.handshake.connect(Frame("CONNECT"), is_implicit=True))

    def on_sends(self, head: SendHead, bodies: list[bytes]) -> None:
        connection = self._connection
        if not connection.is_publisher:
            connection.on_first_publish()
        try:
            connection.publisher.publish(head, bodies)
        except BrokerError as error:
            raise fault_of(error) from error

    def on_send(self, head: SendHead, body: bytes, receipt: str | None, transaction: str | None) -> None:
        connection = self._connection
        if not connection.is_publisher:
            connection.on_first_publish()
        store = connection.broker.store
        before = store.definition_writes
        try:
            if transaction is not None:
                connection.transactions.require(transaction)
                connection.publisher.check(head)
                connection.transactions.send(transaction, head, body, receipt)
                return  # its receipt comes with the COMMIT, as RabbitMQ's does: before that nothing has happened
            _, rejected, needs_store = connection.publisher.publish(head, [body])
            if rejected:
                raise StompFault("rejected", "A queue was full and rejected the message\n")
        except (BrokerError, StompFault) as error:
            raise _answerable(error, receipt) from error
        if receipt is not None:
            connection.answer(receipt, needs_store=needs_store or store.definition_writes != before)

    def on_acks(self, tags: list[int]) -> None:
        self._connection.deliveries.ack(tags)

    def on_frame(self, frame: Frame) -> None:
        connection = self._connection
        receipt = frame.headers.get("receipt")
        try:
            if frame.command in CONNECT:
                self._on_connect(frame)
                return
            handle = HANDLERS.get(frame.command)
            if handle is None:  # NACK is not of STOMP 1.0, but RabbitMQ takes it there
                raise StompFault("Bad command", f'Could not interpret command "{frame.command}"\n')
            store = connection.broker.store
            before = store.definition_writes
            needs_store = handle(self, frame)
        except (BrokerError, StompFault) as error:
            raise _answerable(error, receipt) from error
        if receipt is not None:
            then, self._started = self._started, None
            connection.answer(
                receipt, needs_store=needs_store or store.definition_writes != before, then=then
            )
        if frame.command == "DISCONNECT":
            connection.leave()

    def _on_connect(self, frame: Frame) -> None:
        connection = self._connection
        if connection.state is not ConnectionState.STARTING:
            raise StompFault("Illegal command", "You are logged in already\n")
        connection.defer(lambda: connection.handshake.connect(frame))

    def _on_subscribe(self, frame: Frame) -> bool:
        subscription = self._connection.subscriptions.subscribe(frame)
        if not subscription.is_ready:
            self._started = subscription.ready
        return False

    def _on_unsubscribe(self, frame: Frame) -> bool:
        return self._connection.subscriptions.unsubscribe(frame)

    def _on_settle(self, frame: Frame) -> bool:
        connection = self._connection
        transaction = frame.headers.get("transaction")
        if transaction is not None:
            connection.transactions.require(transaction)
        settlement = connection.deliveries.read(frame, connection.version)
        if transaction is not None:
            connection.transactions.settle(transaction, settlement)
            return False
        return connection.deliveries.settle(settlement)

    def _on_begin(self, frame: Frame) -> bool:
        self._connection.transactions.begin(self._transaction(frame))
        return False

    def _on_commit(self, frame: Frame) -> bool:
        connection = self._connection
        needs_store, receipts = connection.transactions.commit(
            self._transaction(frame), connection.publisher, connection.deliveries
        )
        for receipt in receipts:
            connection.answer(receipt, needs_store=needs_store)
        return needs_store

    def _on_abort(self, frame: Frame) -> bool:
        self._connection.transactions.abort(self._transaction(frame))
        return False

    @staticmethod
    def _transaction(frame: Frame) -> str:
        name = frame.headers.get("transaction")
        if name is None:
            raise StompFault(
                "Missing transaction", f"\"{frame.command}\" must include a 'transaction' header\n"
            )
        return name

    def _on_disconnect(self, frame: Frame) -> bool:
        return True  # its receipt says that all that was sent before is safe


def _answerable(error: BrokerError | StompFault, receipt: str | None) -> StompFault:
    """With the receipt that was asked for: the ERROR tells which frame it is about."""
    fault = fault_of(error) if isinstance(error, BrokerError) else error
    return StompFault(fault.message, fault.detail, receipt)


HANDLERS: dict[str, Callable[[Commands, Frame], bool]] = {
    "SUBSCRIBE": Commands._on_subscribe,
    "UNSUBSCRIBE": Commands._on_unsubscribe,
    "ACK": Commands._on_settle,
    "NACK": Commands._on_settle,
    "BEGIN": Commands._on_begin,
    "COMMIT": Commands._on_commit,
    "ABORT": Commands._on_abort,
    "DISCONNECT": Commands._on_disconnect,
}
"""Each says whether the store is concerned, so that a receipt has to wait for it."""
