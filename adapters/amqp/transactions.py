"""tx: publishes and settlements of a channel, kept until commit or rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from leveret.core.message import Message

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
__all__ = ["Transaction"]

Outcome = Literal["ack", "requeue", "reject"]


class Transaction:
    """What was done since the last commit or rollback.

    Settled deliveries are out of the channel's `unacked` at once, so that a second ack of the same tag is an error;
    a rollback puts them back, still unacked, and does not redeliver them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._publishes: list[tuple[bytes, bytes, list[bytes]]] = []
        self._settled: list[tuple[int, Message, Outcome]] = []

    @property
    def uncommitted(self) -> tuple[int, int]:
        """How many messages and settlements wait for the commit."""
        return sum(len(bodies) for _, _, bodies in self._publishes), len(self._settled)

    def publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> None:
        self._publishes.append((key, header, bodies))

    def settle(self, tagged: list[tuple[int, Message]], outcome: Outcome) -> None:
        self._settled += [(tag, message, outcome) for tag, message in tagged]

    def commit(self) -> int:
        """Do it all, in order: publishes, then settlements. Returns how many publishes a queue rejected."""
        publishes, self._publishes = self._publishes, []
        settled, self._settled = self._settled, []
        channel = self._channel
        rejected = 0
        for key, header, bodies in publishes:
            _, rejected_here, _ = channel.publisher.publish(key, header, bodies)
            rejected += rejected_here
        for outcome in ("ack", "requeue", "reject"):
            messages = [message for _, message, wanted in settled if wanted == outcome]
            if outcome == "ack":
                channel.accept(messages)
            elif outcome == "requeue":
                channel.requeue(messages, counts=False)
            else:
                channel.reject(messages)
        return rejected

    def rollback(self) -> None:
        """Forget the publishes; what was settled is outstanding again."""
        self._publishes.clear()
        settled, self._settled = self._settled, []
        if settled:
            unacked = self._channel.unacked
            restored = {**unacked, **{tag: message for tag, message, _ in settled}}
            unacked.clear()
            unacked.update(sorted(restored.items()))

    def abandon(self) -> list[Message]:
        """The channel ends: what was settled but not committed goes back to its queues."""
        self._publishes.clear()
        settled, self._settled = self._settled, []
        return [message for _, message, _ in settled]
