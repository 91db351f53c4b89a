"""The reading rhythm: pauses are a trial that must pay."""

from __future__ import annotations

from leveret.adapters.read_coalescing import PAUSE_S, STREAK, ReadCoalescer


def stream(coalescer: ReadCoalescer, start: float, chunks: int, size: int, gap: float) -> tuple[float, bool]:
    """Feed chunks at a steady gap; the time after the last, and whether the last asked for a pause."""
    now, paused = start, False
    for _ in range(chunks):
        now += gap
        paused = coalescer.after(size, now)
        if paused:
            break
    return now, paused


def test_slow_peers_are_never_made_to_wait() -> None:
    coalescer = ReadCoalescer()
    _, paused = stream(coalescer, 1.0, 1000, 80, 0.0005)
    assert not paused


def test_large_chunks_are_batches_already() -> None:
    coalescer = ReadCoalescer()
    _, paused = stream(coalescer, 1.0, 1000, 100_000, 0.00005)
    assert not paused


def test_a_stream_of_crumbs_is_paused_and_stays_paused_while_it_pays() -> None:
    coalescer = ReadCoalescer()
    now, paused = stream(coalescer, 1.0, STREAK + 1, 700, 0.00005)
    assert paused
    for _ in range(100):
        now += PAUSE_S
        assert not coalescer.after(1000, now)  # what the congestion window let through
        now += 0.0001
        assert coalescer.after(30_000, now)


def test_a_peer_that_waits_for_us_is_left_alone_ever_longer() -> None:
    coalescer = ReadCoalescer()
    pauses = 0
    now = 1.0
    for _ in range(100_000):
        now += 0.00005
        if coalescer.after(700, now):
            pauses += 1
            now += PAUSE_S
    assert 0 < pauses < 30
