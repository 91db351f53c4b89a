"""Methods against three others' idea of them: the tests' own by hand, pika's and pamqp's; and what is malformed."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pamqp.commands
import pamqp.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import amqp_wire
from support.field_values import short_strings, tables, typed

from leveret.adapters.amqp import faults, methods, spec
from leveret.adapters.amqp.methods import (
    CARRIES_CONTENT,
    METHODS,
    Method,
    MethodError,
    decode_method,
    encode_method,
    method_frame,
)
from leveret.core.fields import FieldError

ALL = sorted(METHODS.values(), key=lambda kind: kind.id)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "octet": st.integers(0, 255),
    "short": st.integers(0, 2**16 - 1),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**64 - 1),
    "shortstr": short_strings,
    "longstr": short_strings,
    "longbytes": st.binary(max_size=300),
    "table": tables,
    "bit": st.booleans(),
}
UTF_8 = st.text(st.characters(codec="utf-8"), max_size=60)


def fields_of(kind: type[Method]) -> dict[str, st.SearchStrategy[Any]]:
    """Short strings are UTF-8, but those of methods that carry content."""
    own = KINDS if kind.id in CARRIES_CONTENT else {**KINDS, "shortstr": UTF_8}
    return {name: own[what] for name, what in kind.kinds}


any_method = st.one_of([st.builds(kind, **fields_of(kind)) for kind in ALL])
SAMPLES: dict[str, Any] = {
    "octet": 9, "short": 513, "long": 67305985, "longlong": 2**62 + 5, "shortstr": "naïve", "longstr": "en_US fr",
    "longbytes": b"\x00guest", "table": {"x-a": True, "x-b": "text"}, "bit": True,
}  # fmt: skip


def sample(kind: type[Method]) -> Method:
    """One of this kind with every field set."""
    return kind(**{name: SAMPLES[what] for name, what in kind.kinds})


def by_name(kinds: list[type[Method]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


def test_every_method_is_there() -> None:
    assert {kind.name: kind.id for kind in ALL} == amqp_wire.CLASS_METHOD
    assert {kind.__name__ for kind in ALL} <= set(methods.__all__)
    assert set(pika.spec.methods) <= {class_id << 16 | method_id for class_id, method_id in METHODS}


@by_name(ALL)
def test_as_written_by_hand(kind: type[Method]) -> None:
    method = sample(kind)
    arguments = {name.rstrip("_"): getattr(method, name) for name, _ in kind.kinds}
    payload = amqp_wire.encode_method(kind.name, arguments)
    assert encode_method(method) == payload
    assert decode_method(payload) == method


@by_name(ALL)
def test_defaults_are_nothing(kind: type[Method]) -> None:
    assert encode_method(kind()) == amqp_wire.encode_method(kind.name, {})
    assert decode_method(encode_method(kind())) == kind()


def as_read(expected: Any, read: Any) -> Any:
    """They differ in which long strings are text."""
    if isinstance(read, bytes) and isinstance(expected, str):
        return expected.encode()
    if isinstance(read, str) and isinstance(expected, bytes):
        return expected.decode()
    return expected


# pika sends update-secret, but reads it into an attribute of another method.
PIKA = {
    index: kind for index, kind in pika.spec.methods.items() if kind is not pika.spec.Connection.UpdateSecret
}


@by_name([kind for kind in ALL if kind.id[0] << 16 | kind.id[1] in PIKA])
def test_as_pika_reads(kind: type[Method]) -> None:
    theirs = PIKA[kind.id[0] << 16 | kind.id[1]]()
    theirs.decode(encode_method(sample(kind)), 4)
    for name, what in kind.kinds:
        read = getattr(theirs, "global_qos" if name == "global_" else name)
        assert read == as_read(SAMPLES[what], read), name
    assert b"".join(theirs.encode()) == encode_method(sample(kind))[4:]


PAMQP = pamqp.commands.INDEX_MAPPING  # by class << 16 | method, as pika's


@by_name([kind for kind in ALL if kind.id[0] << 16 | kind.id[1] in PAMQP])
@pytest.mark.filterwarnings("ignore:This command is deprecated:DeprecationWarning")
def test_as_pamqp_reads(kind: type[Method]) -> None:
    """Frames, too: its parser takes ours whole."""
    frame = method_frame(7, sample(kind))
    read: Any
    size, channel, read = pamqp.frame.unmarshal(frame)
    assert (size, channel, type(read)) == (len(frame), 7, PAMQP[kind.id[0] << 16 | kind.id[1]])
    for name, (_, what) in zip(read.attributes(), kind.kinds, strict=True):
        assert getattr(read, name) == as_read(SAMPLES[what], getattr(read, name)), name


@given(any_method)
def test_round_trip(method: Method) -> None:
    decoded = decode_method(encode_method(method))
    assert typed(values_of(decoded)) == typed(values_of(method))
    assert type(decoded) is type(method)


def values_of(method: Method) -> dict[str, Any]:
    return {name: getattr(method, name) for name, _ in method.kinds}


def test_update_secret_as_pika_writes_it() -> None:
    theirs = pika.spec.Connection.UpdateSecret("secret", "expired")
    ours = methods.ConnectionUpdateSecret(new_secret=b"secret", reason="expired")
    assert encode_method(ours)[4:] == b"".join(theirs.encode())


def test_tags_are_unsigned() -> None:
    tag = 2**64 - 1
    assert decode_method(encode_method(methods.BasicAck(delivery_tag=tag))) == methods.BasicAck(
        delivery_tag=tag
    )


def test_bits_share_an_octet() -> None:
    assert encode_method(methods.QueueDeclare(durable=True, nowait=True))[7:8] == b"\x12"
    # Those that nobody defined are nobody's business.
    assert decode_method(b"\x00\x14\x00\x14\xff") == methods.ChannelFlow(active=True)


def test_more_than_eight_bits() -> None:
    """No method has as many, but the encoding does (AMQP 4.2.5.2)."""

    @dataclasses.dataclass(frozen=True)
    class Many(Method):
        id = (99, 1)
        name = "many.bits"
        kinds = (*((f"bit{number}", "bit") for number in range(10)), ("last", "octet"))
        last: int = 5

        def __getattr__(self, name: str) -> bool:
            return name in ("bit0", "bit8")

    assert encode_method(Many()) == b"\x00\x63\x00\x01\x01\x01\x05"


def test_names_that_are_not_utf_8_are_refused() -> None:
    """Code and text as RabbitMQ 3.10 answers them, for every short string of every method but those with content."""
    with pytest.raises(MethodError) as info:
        decode_method(b"\x00\x32\x00\x1e\x00\x00\x03q\xff\x00\x00")
    assert (info.value.code, info.value.text, info.value.method) == (
        501,
        "Malformed UTF-8 in shortstr",
        (0, 0),
    )


def test_keys_of_any_bytes_pass_with_content() -> None:
    payload = b"\x00\x3c\x00\x28\x00\x00\x00\x02k\xff\x00"
    assert encode_method(decode_method(payload)) == payload


def test_methods_are_values() -> None:
    one, other = methods.QueueDelete(queue="q"), methods.QueueDelete(queue="q")
    assert one == other
    assert repr(one) == "QueueDelete(ticket=0, queue='q', if_unused=False, if_empty=False, nowait=False)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.queue = "r"  # type: ignore[misc]


# What is refused


@pytest.mark.parametrize("payload", [b"\x00\x32\x03\xe7", b"\x03\xe7\x00\x0a", b"\xff\xff\xff\xff"])
def test_unknown_methods(payload: bytes) -> None:
    with pytest.raises(MethodError) as caught:
        decode_method(payload + b"whatever")
    assert caught.value.code == 503
    assert caught.value.method == struct.unpack(">HH", payload)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x32\x00"])
def test_no_method_at_all(payload: bytes) -> None:
    with pytest.raises(MethodError) as caught:
        decode_method(payload)
    assert (caught.value.code, caught.value.method) == (502, (0, 0))


@by_name(ALL)
def test_cut_or_continued(kind: type[Method]) -> None:
    payload = encode_method(sample(kind))
    for malformed in [payload[:size] for size in range(4, len(payload))] + [payload + b"\x00"]:
        with pytest.raises(MethodError) as caught:
            decode_method(malformed)
        assert (caught.value.code, caught.value.method) == (502, kind.id)
        assert caught.value.text == f"malformed method '{kind.name}'"


def test_a_broken_table() -> None:
    with pytest.raises(MethodError) as caught:
        decode_method(encode_method(methods.QueueDeclare(queue="q"))[:-4] + b"\x00\x00\x00\x05\x01aU\x00\x01")
    assert caught.value.code == 502


@pytest.mark.parametrize(
    "method",
    [
        methods.QueueDeclare(queue="x" * 256), methods.QueueDeclare(queue="\ud800"), methods.QueueDeclare(ticket=-1),
        methods.ConnectionStart(version_major=256), methods.BasicAck(delivery_tag=2**64),
        methods.QueueDeclare(arguments={"k": object()}), methods.ConnectionStart(locales="\ud800"),
    ],
    ids=lambda method: method.name,
)  # fmt: skip
def test_values_that_do_not_fit(method: Method) -> None:
    with pytest.raises(FieldError):
        encode_method(method)


def test_a_frame() -> None:
    assert method_frame(258, methods.TxSelect()) == b"\x01\x01\x02\x00\x00\x00\x04\x00\x5a\x00\x0a\xce"


def test_reply_names_are_the_same_everywhere() -> None:
    assert set(faults.CHANNEL_CODES.values()) | set(faults.CONNECTION_CODES.values()) <= set(spec.REPLY_NAMES)
