"""What does not fit into AMQP's fields is refused in words for the client, not in those of the interpreter."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.adapters.amqp.methods import BasicCancel, ConnectionTune, encode_method
from leveret.core.fields import FieldError, encode_table
from leveret.core.properties import Properties


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("app_id", "x" * 256, "property app_id must be text of at most 255 bytes in UTF-8"),
        ("type", "\ud800", "property type must be text of at most 255 bytes in UTF-8"),
        ("priority", 256, "property priority must be a whole number from 0 to 255"),
        ("delivery_mode", -1, "property delivery_mode must be a whole number from 0 to 255"),
        ("timestamp", 1 << 64, "property timestamp must be a whole number from 0 to 18446744073709551615"),
        ("timestamp", 1.5, "property timestamp must be a whole number from 0 to 18446744073709551615"),
        ("headers", {"k" * 256: 1}, "a key is longer than 255 bytes"),
    ],
)
def test_properties(name: str, value: Any, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        Properties(**{name: value}).encode()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"a": 1, "b": 1 << 64},
            "the value of 'b' is not text that UTF-8 can write, or not a number of at most 64 bits",
        ),
        (
            {"a": [{"x": "\ud800"}]},
            "the value of 'a' is not text that UTF-8 can write, or not a number of at most 64 bits",
        ),
        ({"\ud800": 1}, "the key '\\ud800' is not text that UTF-8 can write"),
        ({"a": object()}, "a object has no field type"),
    ],
)
def test_tables(table: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        encode_table(table)
    assert str(caught.value) == message


def test_methods() -> None:
    with pytest.raises(FieldError) as caught:
        encode_method(BasicCancel(consumer_tag="x" * 256, nowait=False))
    assert str(caught.value) == "consumer_tag of basic.cancel must be text of at most 255 bytes in UTF-8"
    with pytest.raises(FieldError) as caught:
        encode_method(ConnectionTune(channel_max=1 << 16, frame_max=0, heartbeat=0))
    assert str(caught.value) == "channel_max of connection.tune must be a short"
