"""Whether a small group should wait a moment before it is written: it may settle meanwhile, and need no disk at all."""

from __future__ import annotations

import trio

from leveret.core.store.lmdb.group import Group

__all__ = ["Linger"]

SMALL_OPERATIONS = 64  # larger groups are worth their flush
PASSES = 12  # of the scheduler: some 150 us, in which a consumer that is quick has answered
TRIAL_EVERY = 32  # small groups, while it does not pay
MISSES = 3  # in a row: it does not pay any more


class Linger:
    """A publisher that confirms each message, and a consumer that acks each at once: the ack is a tenth of a
    millisecond behind the publish, a flush takes several. A message settled before its group is written never reaches
    the disk, so the group is given the chance, as long as that works; whether it does is tried now and then.
    """

    def __init__(self) -> None:
        self._is_paying = False
        self._misses = 0
        self._skipped = 0

    async def wait(self, group: Group) -> None:
        """Returns when the group is empty, or should not be kept any longer."""
        if not 0 < group.operations <= SMALL_OPERATIONS or group.definitions:
            return
        if not self._is_paying:
            self._skipped += 1
            if self._skipped < TRIAL_EVERY:
                return
            self._skipped = 0
        for _ in range(PASSES):
            await trio.lowlevel.checkpoint()
            if not group.operations:
                self._is_paying = True
                self._misses = 0
                return
            if group.operations > SMALL_OPERATIONS:
                break
        self._misses += 1
        if self._misses >= MISSES:
            self._is_paying = False
