"""Families of samples, made short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from leveret.core.histogram import Histogram
__all__ = ["bound_text", "buckets_of", "histogram_of", "labelled", "one"]


def one(name: str, help: str, value: float) -> Metric:
    """A family with a single sample; its name says whether it is a counter."""
    if name.endswith("_total"):
        return CounterMetricFamily(name.removesuffix("_total"), help, value=value)
    return GaugeMetricFamily(name, help, value=value)


def labelled(name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    """A family with labels."""
    family: Metric
    is_counter = name.endswith("_total")
    if is_counter:
        family = CounterMetricFamily(name.removesuffix("_total"), help)
    else:
        family = GaugeMetricFamily(name, help)
    for labels, value in samples:
        family.add_sample(name, dict(labels), value)
    return family


def histogram_of(name: str, help: str, found: Histogram) -> Metric:
    """A family with one histogram without labels."""
    family = HistogramMetricFamily(name, help)
    family.add_metric([], buckets_of(found), found.total)
    return family


def buckets_of(found: Histogram, text: Callable[[float], str] = repr) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, the last one +Inf. text: how a bound is written."""
    return [("+Inf" if bound == inf else text(bound), count) for bound, count in found.buckets()]


def bound_text(bound: float) -> str:
    """As RabbitMQ writes them, and its dashboards ask for them: 100.0, 1e+06."""
    return f"{bound:.1f}" if bound < 1_000_000 else f"{bound:.0e}"
