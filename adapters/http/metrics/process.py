"""The process, and its limits."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from leveret.adapters.http.rates import FD_DIRECTORY
from leveret.core.alarms import resident_bytes

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["node_numbers", "started_at"]

TICKS = os.sysconf("SC_CLK_TCK")


def node_numbers(context: HttpContext) -> dict[str, float]:
    """Of the process and its limits, by RabbitMQ's names without a prefix."""
    flow = context.broker.alarms
    files = 0
    with suppress(OSError):
        files = len(os.listdir(FD_DIRECTORY))
    memory = flow.memory_used
    with suppress(OSError):
        memory = resident_bytes()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "process_open_fds": files,
        "process_max_fds": soft,
        "process_open_tcp_sockets": len(context.broker.connections),
        "process_max_tcp_sockets": soft,
        "process_resident_memory_bytes": memory,
        "resident_memory_limit_bytes": flow.memory_limit,
        "disk_space_available_bytes": flow.disk_free,
        "disk_space_available_limit_bytes": flow.disk_free_limit,
        "erlang_uptime_seconds": time.time() - context.started_at,
    }


def started_at() -> float:
    """Of the process. 0: not told here."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        return int(boot.split()[1]) + int(fields[19]) / TICKS
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
