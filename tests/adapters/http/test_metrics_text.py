"""Pieces of Prometheus text: labels, numbers, turns, patterns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from multidict import MultiDict
from prometheus_client.parser import text_string_to_metric_families

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.metrics import slices
from leveret.adapters.http.metrics.exposition import label_text, number
from leveret.adapters.http.metrics.handlers import _selection
from leveret.adapters.http.metrics.samples import bound_text


@pytest.mark.parametrize(
    "name", ["plain", 'quo"te', "back\\slash", "line\nend", "tab\tbed", "ünïcode", "", "\\n", '\\"']
)
def test_labels_come_back_as_they_were(name: str) -> None:
    (family,) = text_string_to_metric_families(f"m{{{label_text([('queue', name), ('vhost', '/')])}}} 1\n")
    assert family.samples[0].labels == {"queue": name, "vhost": "/"}


def test_a_name_that_is_no_unicode_is_shown_by_its_bytes() -> None:
    assert label_text([("queue", "a\udcff")]) == 'queue="a\\\\udcff"'


def test_numbers() -> None:
    assert [number(value) for value in (1, 2**60, 0.5, float("nan"))] == ["1", str(2**60), "0.5", "NaN"]
    assert [bound_text(bound) for bound in (100, 1_000_000, 50_000_000)] == ["100.0", "1e+06", "5e+07"]


def test_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    order: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(order.append, "another")
        await slices.in_slices([1, None, 2, 3], order.append)

    asyncio.run(main())
    assert order == [1, "another", 2, 3]


@pytest.mark.parametrize("pattern", ["(", "x" * 1001])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(Refusal) as refused:
        _selection(MultiDict({"queue": pattern}))
    assert refused.value.status == 400


def test_a_pattern_has_its_time() -> None:
    wanted = _selection(MultiDict([("queue", "(a+)+$"), ("vhost", "x"), ("vhost", "y")]))
    assert wanted.has_queue("aaa")
    assert [wanted.has_vhost(name) for name in ("x", "y", "z")] == [True, True, False]
    slow = _selection(MultiDict({"queue": "(a|aa)+$"}))
    with pytest.raises(Refusal, match="too long"):
        slow.has_queue("a" * 60 + "!")
