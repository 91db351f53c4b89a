"""Queues purged and deleted by an operator, regardless of permissions and of owners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leveret.core.definitions.recovery import require_vhost
from leveret.core.topology.checks import require_queue
from leveret.core.topology.queues import remove_queue

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["delete_queue", "purge_queue"]

log = logging.getLogger(__name__)


def purge_queue(broker: Broker, queue: str, vhost: str) -> int:
    """Drop the ready messages of a queue. Returns how many. Raise NotFound."""
    count = require_queue(require_vhost(broker, vhost), queue).purge()
    log.info("queue=%r vhost=%r purged by the operator: %d messages", queue, vhost, count)
    return count


def delete_queue(
    broker: Broker, queue: str, vhost: str, if_empty: bool = False, if_unused: bool = False
) -> int:
    """Delete a queue, also an exclusive one. Returns how many ready messages it had.

    if_empty, if_unused: only without ready messages, only without consumers; else PreconditionFailed. Raise NotFound.
    """
    found = require_queue(require_vhost(broker, vhost), queue)
    count = remove_queue(found, if_unused=if_unused, if_empty=if_empty)
    log.info("queue=%r vhost=%r deleted by the operator", queue, vhost)
    return count
