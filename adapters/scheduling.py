"""Sockets are served in the order in which they became ready, as other brokers serve them.

trio runs the tasks of one pass in order or in reverse, by chance, so that no program relies on an order. Clients do rely
on one: a program with two connections that subscribes on the first and publishes on the second, without a look at the
answer, finds its message with brokers whose event loop takes sockets as they come. No protocol promises it, and it
costs nothing to keep.
"""

from __future__ import annotations

import random
import sys

__all__ = ["serve_in_order_of_arrival"]


class _InOrder(random.Random):
    """What trio's scheduler asks whether to reverse its batch, which it then takes from the end: always."""

    def random(self) -> float:
        return 0.0


def serve_in_order_of_arrival() -> bool:
    """For this process. False: this trio is built otherwise, and chance decides as before."""
    scheduler = sys.modules.get("trio._core._run")
    if not isinstance(getattr(scheduler, "_r", None), random.Random):
        return False
    scheduler._r = _InOrder()  # type: ignore[union-attr]  # private; guarded above, and by a test
    return True
