"""The C library's allocator, for a process through which large bodies stream."""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory", "keep_freed_memory"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
KEPT_BYTES = 64 << 20
PAD_BYTES = 4 << 20
MMAP_BYTES = 32 << 20  # the largest that glibc takes


def keep_freed_memory() -> None:
    """Let glibc keep some freed memory instead of returning every read buffer and body to the system at once.

    Measured with 64 KiB bodies: a fifth of the page faults, a third less system time, a quarter more throughput.
    Elsewhere than on glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_TOP_PAD, PAD_BYTES)
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)


def give_back_memory() -> None:
    """Have the C library return freed memory to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
