"""Counters as RabbitMQ shows them: the number, and beside it `_details` with its rate and, if asked for, samples."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.series import Range

if TYPE_CHECKING:
    from leveret.adapters.http.management.routes import Call
    from leveret.adapters.http.rates import Columns, Rates
    from leveret.adapters.http.series import Series
__all__ = ["DELIVER", "Details", "Ranges", "iso_time"]

DELIVER = ("deliver", "deliver_no_ack", "get", "get_no_ack")
"""What deliver_get is the sum of."""
GROUPS = ("lengths", "msg_rates", "data_rates", "node_stats")
MAX_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Ranges:
    """Which samples the client asks for, by group; none: only the rates."""

    lengths: Range | None = None
    msg_rates: Range | None = None
    data_rates: Range | None = None
    node_stats: Range | None = None

    @classmethod
    def of(cls, call: Call, error: str = "bad_request") -> Ranges:
        """`GROUP_age` and `GROUP_incr`, in seconds. Raise Refusal (400, with this error)."""
        query = call.request.query
        found: dict[str, Range | None] = {}
        for group in GROUPS:
            age, step = query.get(f"{group}_age"), query.get(f"{group}_incr")
            if age is None or step is None:
                continue
            try:
                age_s, step_s = int(age), int(step)
                if age_s < 0 or step_s <= 0 or age_s // step_s > MAX_SAMPLES:
                    raise ValueError
            except ValueError:
                raise Refusal(400, error, f"Invalid range parameters: age {age}, incr {step}") from None
            found[group] = Range(age_s, step_s)
        return cls(**found)


class Details:
    """The counters of one thing, written into an answer."""

    __slots__ = ("_columns", "_rates", "_series")

    def __init__(self, rates: Rates, columns: Columns, series: Series | None) -> None:
        self._rates = rates
        self._columns = columns.columns
        self._series = series

    def put(
        self,
        into: dict[str, Any],
        values: Mapping[str, int],
        wanted: Range | None = None,
        *,
        sums: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Each value under its name, with its details. sums: names that are made of others."""
        sums = sums or {}
        for name, value in values.items():
            into[name] = value
            into[f"{name}_details"] = self.of(sums.get(name, (name,)), wanted)

    def of(self, names: Iterable[str], wanted: Range | None) -> dict[str, Any]:
        rates, series = self._rates, self._series
        columns = [self._columns[name] for name in names if name in self._columns]
        if series is None or not columns:
            return {"rate": 0.0}
        rate = sum(series.rate(column, rates.now_ms, rates.before_ms) for column in columns)
        details: dict[str, Any] = {"rate": float(rate)}
        if wanted is not None:
            rows = zip(*(series.samples(column, wanted, rates.now_ms) for column in columns), strict=True)
            samples = [{"sample": sum(value for value, _ in row), "timestamp": row[0][1]} for row in rows]
            details["samples"] = samples
            details["avg_rate"] = details["avg"] = 0.0
            if samples:
                first, last = samples[-1], samples[0]
                span_ms = last["timestamp"] - first["timestamp"]
                if span_ms:
                    details["avg_rate"] = (last["sample"] - first["sample"]) * 1000 / span_ms
                details["avg"] = sum(sample["sample"] for sample in samples) / len(samples)
        return details


def iso_time(wall_ms: int) -> str:
    """As RabbitMQ writes times: 2026-11-21T10:00:11.064+00:00."""
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC).isoformat(timespec="milliseconds")
