"""When two declarations are the same."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.core.equivalence import assert_equal_arguments, assert_equal_field, describe_resource
from leveret.core.errors import PreconditionFailed
from leveret.core.fields import Float32, Int8, Int64, UInt32

KEYS = ("k", "x-queue-type")


@pytest.mark.parametrize(
    ("current", "received"),
    [
        ({}, {}), ({"k": 1}, {"k": Int64(1)}), ({"k": Int8(1)}, {"k": UInt32(1)}), ({"k": 1.0}, {"k": Float32(1.0)}),
        ({"k": b"a"}, {"k": "a"}), ({"other": 1}, {"other": 2}), ({"other": 1}, {}),
        ({"x-queue-type": "classic"}, {}), ({}, {"x-queue-type": "classic"}), ({"k": [1, {"a": 2}]}, {"k": [1, {"a": 2}]}),
    ],
)  # fmt: skip
def test_equal(current: dict[str, Any], received: dict[str, Any]) -> None:
    assert_equal_arguments("thing", KEYS, current, received)


@pytest.mark.parametrize(
    ("current", "received", "text"),
    [
        ({"k": 1}, {"k": 2}, "'k' for t: received '2' but current is '1'"),
        ({"k": 1}, {"k": True}, "'k' for t: received 'true' but current is '1'"),
        ({"k": 1}, {"k": 1.0}, "'k' for t: received '1.0' but current is '1'"),
        ({}, {"k": Int64(5)}, "'k' for t: received the value '5' of type 'long' but current is none"),
        ({"k": "v"}, {}, "'k' for t: received none but current is the value 'v' of type 'longstr'"),
        ({}, {"x-queue-type": "quorum"},
         "'x-queue-type' for t: received the value 'quorum' of type 'longstr' but current is none"),
        ({"x-queue-type": "classic"}, {"x-queue-type": "quorum"},
         "'x-queue-type' for t: received 'quorum' but current is 'classic'"),
    ],
)  # fmt: skip
def test_inequivalent(current: dict[str, Any], received: dict[str, Any], text: str) -> None:
    with pytest.raises(PreconditionFailed) as info:
        assert_equal_arguments("t", KEYS, current, received)
    assert str(info.value) == f"inequivalent arg {text}"


def test_fields() -> None:
    assert_equal_field("t", "durable", True, True)
    with pytest.raises(PreconditionFailed) as info:
        assert_equal_field(describe_resource("queue", "q", "/"), "durable", True, False)
    assert str(info.value) == (
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    )
