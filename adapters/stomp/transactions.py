"""BEGIN, COMMIT, ABORT: SENDs and settlements that are kept until they are all done, or none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.stomp.acks import Settlement
from leveret.adapters.stomp.faults import StompFault

if TYPE_CHECKING:
    from leveret.adapters.stomp.acks import Deliveries
    from leveret.adapters.stomp.parser import SendHead
    from leveret.adapters.stomp.publishing import Publisher
    from leveret.adapters.stomp.settings import StompSettings
__all__ = ["Transactions"]

Action = tuple["SendHead", bytes, "str | None"] | Settlement  # a SEND's last part: the receipt it asked for


class Transactions:
    """The open transactions of one connection, by name; bounded in number, actions and bytes."""

    __slots__ = (
        "_bytes",
        "_open",
        "_settings",
    )

    def __init__(self, settings: StompSettings) -> None:
        self._settings = settings
        self._open: dict[str, list[Action]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, name: str) -> None:
        """Raise StompFault."""
        if name in self._open:
            raise StompFault("Bad transaction", f'A transaction "{name}" is open already\n')
        if len(self._open) >= self._settings.max_transactions:
            raise StompFault(
                "Too many transactions",
                f"At most {self._settings.max_transactions} transactions may be open on a connection\n",
            )
        self._open[name] = []

    def send(self, name: str, head: SendHead, body: bytes, receipt: str | None) -> None:
        """Raise StompFault."""
        limit = self._settings.max_transaction_bytes
        size = head.size + len(body)
        if self._bytes + size > limit:
            raise StompFault(
                "Transaction too large", f"The open transactions of a connection may hold {limit} bytes\n"
            )
        self._extend(name, (head, body, receipt))
        self._bytes += size

    def settle(self, name: str, settlement: Settlement) -> None:
        """Raise StompFault."""
        self._extend(name, settlement)

    def _extend(self, name: str, action: Action) -> None:
        actions = self._actions(name)
        if len(actions) >= self._settings.max_transaction_actions:
            raise StompFault(
                "Transaction too large",
                f"A transaction may have at most {self._settings.max_transaction_actions} frames\n",
            )
        actions.append(action)

    def require(self, name: str) -> None:
        """Raise StompFault if there is no such transaction."""
        self._actions(name)

    def _actions(self, name: str) -> list[Action]:
        actions = self._open.get(name)
        if actions is None:
            raise StompFault("Bad transaction", f'Invalid transaction identifier: "{name}"\n')
        return actions

    def commit(self, name: str, publisher: Publisher, deliveries: Deliveries) -> tuple[bool, list[str]]:
        """Do it all, in order and in one step. Returns whether the store is concerned, and the receipts of its SENDs.

        Everything is checked first: raise StompFault, BrokerError or AuthorizationPending with nothing done.
        """
        actions = self._actions(name)
        for action in actions:
            if isinstance(action, Settlement):
                deliveries.check(action)
            else:
                publisher.check(action[0])
        self._forget(name)
        needs_store = False
        rejected = 0
        receipts: list[str] = []
        for action in actions:
            if isinstance(action, Settlement):
                if deliveries.is_outstanding(action):  # an earlier one of ack:client may have covered it
                    needs_store = deliveries.settle(action) or needs_store
            else:
                _, refused, is_stored = publisher.publish(action[0], [action[1]])
                rejected += refused
                if action[2] is not None:
                    receipts.append(action[2])
                needs_store = needs_store or is_stored
        if rejected:
            raise StompFault("rejected", f"{rejected} of the transaction's messages found a queue full\n")
        return needs_store, receipts

    def abort(self, name: str) -> None:
        """Raise StompFault."""
        self._actions(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        actions = self._open.pop(name)
        self._bytes -= sum(
            [action[0].size + len(action[1]) for action in actions if not isinstance(action, Settlement)]
        )

    def clear(self) -> None:
        self._open.clear()
        self._bytes = 0
