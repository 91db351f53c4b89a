"""Buckets are cumulative, and what is too large for all of them is counted, too."""

from __future__ import annotations

import math

import pytest

from leveret.core.histogram import Histogram


def test_buckets() -> None:
    found = Histogram((1.0, 2.5))
    assert list(found.buckets()) == [(1.0, 0), (2.5, 0), (math.inf, 0)]
    for value in (0.0, 1.0, 1.5, 2.5, 3.0):  # a bound is the largest of its bucket
        found.add(value)
    assert list(found.buckets()) == [(1.0, 2), (2.5, 4), (math.inf, 5)]
    assert found.count == 5
    assert found.total == pytest.approx(8.0)
    assert repr(found) == "<Histogram count=5 total=8>"
    found.add(2.0, 3)  # three times the same
    assert list(found.buckets()) == [(1.0, 2), (2.5, 7), (math.inf, 8)]
    assert found.count == 8
    assert found.total == pytest.approx(14.0)
