"""Selectors: whatever text a client sends compiles or raises SelectorError, and what compiled answers, never raises."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from leveret.adapters.stomp.selector import SelectorError, compile_selector
from leveret.core.fields import Decimal
from leveret.core.message import Envelope
from leveret.core.properties import Properties

WORDS = [
    "a", "b", "n", "flag", "color", '"x-y"', "JMSPriority", "JMSType", "AND", "OR", "NOT", "BETWEEN", "IN", "LIKE",
    "ESCAPE", "IS", "NULL", "TRUE", "FALSE", "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "(", ")", ",",
    "'x'", "'%_'", "'it''s'", "''", "1", "0", "-1", "2.5", "1e300", "0x1F", "017", "9" * 30, "5L", ".5", "1e-300",
    "convert_string_expressions:", "no_convert_string_expressions:", "hyphenated_props:",
]  # fmt: skip

names = st.sampled_from(["a", "b", "n", "flag", "color", '"x-y"', "JMSPriority", "missing"])
literals = st.sampled_from(
    ["'x'", "''", "'a%'", "1", "0", "2.5", "1e300", "9223372036854775807", "TRUE", "FALSE", "'5'"]
)
numbers = st.sampled_from(["1", "0", "2.5", "1e300", "9223372036854775807", "-3"])
values = st.recursive(
    names | numbers,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner)
        | st.builds("-{}".format, inner)
    ),
    max_leaves=5,
)
predicates = (
    st.builds("{} {} {}".format, values, st.sampled_from(["=", "<>"]), values | literals)
    | st.builds("{} {} {}".format, values, st.sampled_from(["<", ">", "<=", ">="]), values)
    | st.builds("{} {}BETWEEN {} AND {}".format, values, st.sampled_from(["", "NOT "]), values, values)
    | st.builds("{} {}IN ({}, {})".format, names, st.sampled_from(["", "NOT "]), literals, literals)
    | st.builds("{} {}LIKE '%a_'".format, names, st.sampled_from(["", "NOT "]))
    | st.builds("{} IS {}NULL".format, values, st.sampled_from(["", "NOT "]))
    | names
)
conditions = st.recursive(
    predicates,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner)
        | st.builds("NOT ({})".format, inner)
    ),
    max_leaves=6,
)
headers = st.dictionaries(
    st.sampled_from(["a", "b", "n", "flag", "color", "x-y"]),
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(["1", "2.5", "true", "1e400", " 7 ", "0x1", "٣", "nan", "inf", "1_0"])
    | st.binary(max_size=4).map(bytes)
    | st.just(Decimal(3, 1234))
    | st.just([1, "x"])
    | st.just({"t": 1}),
)


def envelope(values: dict[str, Any]) -> Envelope:
    """Not encoded: some of these values have no encoding that comes back the same."""
    made = Envelope("", "q", b"\0\0")
    made._properties = Properties(headers=values, priority=3, type="t")
    return made


def answer(text: str, message: Envelope) -> bool | None:
    """None: it does not compile. `matches` swallows and logs what should not be raised at all; here it is."""
    try:
        selector = compile_selector(text)
    except SelectorError as error:
        refusal = str(error)
    else:
        assert (selector._condition(message.properties) is True) == selector.matches(message)
        return selector.matches(message)
    assert refusal.startswith("invalid selector: ")
    return None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), headers)
def test_any_text(text: str, values: dict[str, Any]) -> None:
    answer(text, envelope(values))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14), headers)
@example(["a", "IN", "(", "1", ",", ")"], {})
def test_any_words(words: list[str], values: dict[str, Any]) -> None:
    answer(" ".join(words), envelope(values))


@settings(max_examples=300, deadline=None)
@given(conditions, headers, st.sampled_from(["", "no_convert_string_expressions:"]))
def test_whatever_is_well_formed_compiles_and_answers(text: str, values: dict[str, Any], prefix: str) -> None:
    """And three-valued logic holds: not both a condition and its contrary, and excluded are neither's unknowns alone."""
    message = envelope(values)
    yes = answer(prefix + text, message)
    no = answer(f"{prefix}NOT ({text})", message)
    assert yes is not None
    assert no is not None
    assert not (yes and no)
    assert answer(f"{prefix}({text}) OR NOT ({text})", message) == (yes or no)
    assert answer(f"{prefix}({text}) AND ({text})", message) == yes
