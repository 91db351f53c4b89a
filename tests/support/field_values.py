"""Strategies for field values, tables and damaged bytes; comparison that sees types."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from leveret.core.fields import (
    ByteArray,
    Decimal,
    Float32,
    Int8,
    Int16,
    Int64,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
)

__all__ = ["damaged", "keys", "short_strings", "tables", "typed", "values"]


def _escaped(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _text_or_bytes(raw: bytes) -> str | bytes:
    """What a long string of these bytes is decoded to."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _is_short(text: str) -> bool:
    return len(text.encode("utf-8", "surrogateescape")) <= 255


short_strings = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(_is_short),
    st.binary(max_size=255).map(_escaped),
)
keys = short_strings


def _ints(kind: type[int], bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high).map(kind)


_scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    _ints(Int8, 8, signed=True),
    _ints(UInt8, 8, signed=False),
    _ints(Int16, 16, signed=True),
    _ints(UInt16, 16, signed=False),
    _ints(int, 32, signed=True),
    _ints(UInt32, 32, signed=False),
    _ints(Int64, 64, signed=True),
    _ints(Timestamp, 64, signed=False),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32).map(Float32),
    st.builds(Decimal, st.integers(0, 255), st.integers(0, (1 << 32) - 1)),
    st.binary(max_size=40).map(_text_or_bytes),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=40).map(ByteArray),
)
values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
tables: st.SearchStrategy[dict[str, Any]] = st.dictionaries(keys, values, max_size=6)


def typed(value: Any) -> Any:
    """Equal only if the types are, too: 1, True, Int8(1) and 1.0 are four things on the wire."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), value


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Something valid with octets changed, taken out or put in, and cut off: further in than noise gets."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("change", "remove", "insert", "cut"))):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 4))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del data[at:]
    return bytes(data)
