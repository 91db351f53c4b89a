"""What publishers remember of the keys they publish to: how much, and what is forgotten when that is reached."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

__all__ = ["MIN_REMEMBERED", "Remembered", "remembered_by_each"]

MIN_REMEMBERED = 512
MAX_REMEMBERED = 1 << 18
"""Entries of one publisher at least; and of all publishers together, as long as each has the least."""
ADMITTED = 8  # without room, one of so many new keys replaces another one

K = TypeVar("K")
V = TypeVar("V")


def remembered_by_each(publishers: int) -> int:
    """How many entries each of so many publishers may remember."""
    return max(MIN_REMEMBERED, MAX_REMEMBERED // max(1, publishers))


class Remembered(dict[K, V]):
    """A bounded dict. With more keys in use than there is room, the share that is found falls in proportion.

    Forgetting the oldest, or all, would find none of the keys if they come in turn. So without room few new keys are
    remembered, each in the place of one chosen at random.
    """

    __slots__ = ("_keys", "_limit", "_new_keys", "_publishers", "_random")

    def __init__(self, publishers: Sized) -> None:
        """publishers: those who share the room, which is looked at again whenever a limit is reached."""
        super().__init__()
        self._publishers = publishers
        self._keys: list[K] = []
        self._limit = MIN_REMEMBERED
        self._new_keys = 0
        self._random = 1

    def remember(self, key: K, value: V) -> None:
        """Keep an entry, unless there is no room for it."""
        if key in self:
            self[key] = value
        elif len(self) < self._limit or self._has_room():
            self[key] = value
            self._keys.append(key)
        else:
            self._new_keys += 1
            if self._new_keys % ADMITTED == 0:
                self._random = self._random * 1103515245 + 12345 & 0x7FFFFFFF
                at = (self._random >> 8) % len(self._keys)
                del self[self._keys[at]]
                self._keys[at] = key
                self[key] = value

    def _has_room(self) -> bool:
        """Look at the limit again, and keep it if it has fallen."""
        self._limit = remembered_by_each(len(self._publishers))
        while len(self) > self._limit:
            del self[self._keys.pop()]
        return len(self) < self._limit

    def clear(self) -> None:
        """Forget all entries."""
        super().clear()
        self._keys.clear()

    def forget(self, is_wrong: Callable[[K], bool]) -> None:
        """Forget the entries whose key fulfils a condition."""
        for key in [key for key in self._keys if is_wrong(key)]:
            del self[key]
        self._keys = list(self)
