"""Selectors: JMS 1.1, 3.8.1, and what ActiveMQ and Artemis say about selecting on STOMP's headers."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.adapters.stomp.selector import MAX_LENGTH, SelectorError, compile_selector
from leveret.core.fields import Decimal, Float32, Int8, Timestamp
from leveret.core.message import Envelope
from leveret.core.properties import Properties


def envelope(headers: dict[str, Any] | None = None, **properties: Any) -> Envelope:
    return Envelope.of("", "q", Properties(headers=headers, **properties))


CAR = envelope(
    {
        "color": "blue", "weight": "2600", "used": "true", "doors": 5, "price": 9.5, "sold": False,
        "tax": Decimal(2, 195), "half": Float32(0.5), "small": Int8(-3), "made": Timestamp(7),
        "order-id": "A-42", "empty": "", "note": "50% off_er\nend", "owner's": "me", "void": None,
        "table": {"a": 1}, "raw": b"\xff\xfe", "größe": "1", "$a_1": "1",
    },
    content_type="text/plain", correlation_id="c1", priority=7, type="car", message_id="m1", reply_to="r",
    timestamp=1_700_000_000, delivery_mode=2, user_id="u", app_id="app", expiration="1000",
)  # fmt: skip


@pytest.mark.parametrize(
    "selector",
    [
        "color = 'blue'", "color='blue'", "color <> 'red'", "NOT color = 'red'", "  color = 'blue'  ",
        "doors = 5", "doors > 4", "doors >= 5", "doors < 5.5", "doors <= 5", "5 = doors", "4 < doors",
        "price = 9.5", "price > 9", "tax = 1.95", "half = .5", "half = 5e-1", "half < 1.", "small = -3", "made = 7",
        "doors = 5L", "doors = 0x5", "doors = 05", "doors = 5.0d", "doors = 5f", "010 = 8",
        "sold = FALSE", "NOT sold", "sold = false", "sold <> TRUE", "TRUE", "NOT FALSE",
        # AND binds before OR, NOT before both; words in any case
        "color = 'blue' OR doors = 1 AND doors = 2", "not color = 'x' and doors = 5", "NOT (color = 'x' OR doors = 1)",
        "color = 'x' Or doors = 1 oR sold = FALSE",
        # BETWEEN, IN, LIKE, IS NULL
        "doors BETWEEN 1 AND 5", "doors BETWEEN 5 AND 5 AND color = 'blue'", "doors NOT BETWEEN 1 AND 4",
        "doors BETWEEN 2 + 1 AND 3 * 2", "color IN ('red', 'blue')", "color NOT IN ('red')", "doors IN (1, 5)",
        "color LIKE 'b%'", "color LIKE '%e'", "color LIKE '%lu%'", "color LIKE 'b_ue'", "color LIKE '%'",
        "color LIKE '____'", "color LIKE 'b%l%u%e'", "color NOT LIKE 'r%'", "empty LIKE ''", "empty LIKE '%'",
        "note LIKE '50!%%' ESCAPE '!'", "note LIKE '%off!_er%' ESCAPE '!'", "note LIKE '%end'",
        "missing IS NULL", "color IS NOT NULL", "empty IS NOT NULL", "void IS NULL", "table IS NOT NULL",
        # arithmetic
        "doors + 1 = 6", "doors -1 = 4", "doors * 2 = 10", "doors / 2 = 2", "doors / 2.0 = 2.5", "doors % 3 = 2",
        "-doors / 2 = -2", "-doors = -5", "+doors = 5", "- - doors = 5", "1 + 2 * 3 = 7", "(1 + 2) * 3 = 9",
        "10 - 3 - 2 = 5", "(((doors))) = 5", "7 % -4 = 3", "-7 % 4 = -3", "price * 2 = 19",
        # what STOMP sends as a string is a number or a boolean where it meets one
        "weight > 2500", "weight = 2600", "weight + 1 = 2601", "used = TRUE", "used", "doors = '5'", "sold = 'false'",
        "weight BETWEEN 1 AND 9999", "weight IN (2600)", "weight > doors", "-weight = -2600",
        "convert_string_expressions:weight > 2500", "weight = '2600'", "weight <> '2600.0'",
        # names
        "JMSType = 'car'", "JMSCorrelationID = 'c1'", "JMSPriority = 7", "JMSMessageID = 'm1'",
        "JMSTimestamp = 1700000000000", "JMSDeliveryMode = 'PERSISTENT'", "JMSReplyTo = 'r'",
        "priority > 6", "type = 'car'", "persistent", "persistent = TRUE", "timestamp = 1700000000",
        '"correlation-id" = \'c1\'', '"content-type" LIKE \'text/%\'', "\"order-id\" = 'A-42'", '"owner\'s" = \'me\'',
        "hyphenated_props:order-id = 'A-42'", "hyphenated_props: content-type = 'text/plain'",
        "hyphenated_props:convert_string_expressions:order-id = 'A-42' AND weight > 1",
        "\"user-id\" = 'u' AND \"app-id\" = 'app' AND expiration = 1000", "größe = 1", "$a_1 = 1",
        "raw IS NOT NULL", "\"owner's\" IN ('it''s', 'me')",
    ],
)  # fmt: skip
def test_selected(selector: str) -> None:
    assert compile_selector(selector).matches(CAR)


@pytest.mark.parametrize(
    "selector",
    [
        "color = 'Blue'", "color = 'red'", "Color = 'blue'", "doors > 5", "FALSE", "sold", "NOT used",
        # unknown is no match, whatever is around it
        "missing = 1", "missing <> 1", "NOT missing = 1", "missing > 1", "missing BETWEEN 1 AND 2", "missing LIKE '%'",
        "missing NOT LIKE '%'", "missing IN ('a')", "missing NOT IN ('a')", "missing + 1 = 1", "missing", "NOT missing",
        "missing = 1 AND color = 'blue'", "NOT (missing = 1 OR color = 'red')", "missing = missing",
        "doors / 0 = 1", "NOT doors / 0 = 1", "doors % 0 = 1", "color + 1 = 1", "NOT color * 2 = 1", "doors / 0.0 > 1",
        # unlike types: false both ways
        "color = 5", "color <> 5", "color > 5", "NOT (color > 5 OR TRUE)", "sold = 0", "table = 'x'", "table <> 'x'",
        "color = TRUE", "sold > 0", "color BETWEEN 1 AND 2", "color NOT BETWEEN 1 AND 2",
        "color > color", "doors LIKE '5'", "color",
        # strict
        "no_convert_string_expressions:weight > 2500", "no_convert_string_expressions:used",
        "no_convert_string_expressions:weight = 2600", "no_convert_string_expressions:doors IN ('5')",
        "color LIKE 'B%'", "color LIKE 'bl'", "color LIKE '%l'", "color LIKE 'blue_'", "color LIKE 'blue%blue'",
        "note LIKE '50!%' ESCAPE '!'", "color LIKE 'b%b%e'", "order-id = 'A-42'", "color NOT LIKE '%u%'",
    ],
)  # fmt: skip
def test_not_selected(selector: str) -> None:
    assert not compile_selector(selector).matches(CAR)


def test_three_valued_logic() -> None:
    """JMS 1.1, 3.8.1.2, tables 3-4 to 3-6; unknown and false look alike, but not behind NOT or beside others."""
    values = {"t": "TRUE", "f": "FALSE", "u": "missing = 1"}
    tables = {
        "AND": {
            "tt": "t",
            "tf": "f",
            "tu": "u",
            "ft": "f",
            "ff": "f",
            "fu": "f",
            "ut": "u",
            "uf": "f",
            "uu": "u",
        },
        "OR": {
            "tt": "t",
            "tf": "t",
            "tu": "t",
            "ft": "t",
            "ff": "f",
            "fu": "u",
            "ut": "t",
            "uf": "u",
            "uu": "u",
        },
    }
    for word, table in tables.items():
        for operands, expected in table.items():
            left, right = operands[0], operands[1]
            text = f"({values[left]}) {word} ({values[right]})"
            assert compile_selector(text).matches(CAR) == (expected == "t"), text
            assert compile_selector(f"NOT ({text})").matches(CAR) == (expected == "f"), text


def test_defaults() -> None:
    plain = envelope()
    assert compile_selector("JMSPriority = 4 AND priority IS NULL").matches(plain)
    assert compile_selector("JMSDeliveryMode = 'NON_PERSISTENT' AND persistent IS NULL").matches(plain)
    assert compile_selector("JMSTimestamp IS NULL AND JMSType IS NULL AND color IS NULL").matches(plain)


def test_a_property_is_before_a_header_of_its_name() -> None:
    """As in a MESSAGE, where the first of two headers counts."""
    assert compile_selector("type = 'property'").matches(envelope({"type": "header"}, type="property"))


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ("", "it is empty"),
        ("convert_string_expressions:", "it is empty"),
        ("color =", "it ends too early"),
        ("(color = 'x'", "it ends too early"),
        ("color 'blue'", "unexpected \"'blue'\" at position 7"),
        ("color = 'blue", 'unexpected "\'" at position 9'),
        ("color = @", "unexpected '@' at position 9"),
        ("color == 1", "unexpected '=' at position 8"),
        ("a = 1 b = 2", "unexpected 'b' at position 7"),
        ("a IN ()", "unexpected ')' at position 7"),
        ("a IN (b)", "unexpected 'b' at position 7"),
        ("a LIKE b", "unexpected 'b' at position 8"),
        ("a IS 1", "unexpected '1' at position 6"),
        ("1a = 1", "unexpected 'a' at position 2"),
        ("AND", "unexpected 'AND' at position 1"),
        ("1", "a number is no condition"),
        ("'a'", "a text is no condition"),
        ("a + 1", "a number is no condition"),
        ("a-b", "a number is no condition"),
        ("a > 'x'", "'x' cannot be put in order or calculated with"),
        ("a + 'x' = 1", "'x' cannot be put in order or calculated with"),
        ("TRUE > a", "True cannot be put in order or calculated with"),
        ("(a = 1) = (b = 1)", "a condition cannot be compared"),
        ("(a = 1) + 1 = 2", "a condition cannot be put in order or calculated with"),
        ("5 LIKE '5'", "LIKE is for names of headers"),
        ("a LIKE 'x' ESCAPE 'yz'", "ESCAPE takes one character, not 'yz'"),
        ("a = 089", "'089' is no octal number"),
        ("a = " + "9" * 65, "a number has more than 64 digits"),
        ("(" * 65 + "a" + ")" * 65, "it is nested deeper than 64"),
        ("NOT " * 65 + "a", "it is nested deeper than 64"),
        ("a = " + "-" * 65 + "1", "it is nested deeper than 64"),
        ("a" * (MAX_LENGTH + 1), "it is longer than 4096 characters"),
        ("XPATH '//a'", "XPATH and XQUERY are not supported"),
        ("JMSRedelivered = TRUE", "JMSRedelivered is not known before a message is delivered"),
        ("\"message-id\" = 'x'", "message-id is not known before a message is delivered"),
    ],
)
def test_refused(selector: str, text: str) -> None:
    with pytest.raises(SelectorError) as caught:
        compile_selector(selector)
    assert str(caught.value) == f"invalid selector: {text}"


def test_up_to_the_limits() -> None:
    assert compile_selector("(" * 64 + "color='blue'" + ")" * 64).matches(CAR)
    assert compile_selector("NOT " * 64 + "color='blue'").matches(CAR)
    many = " OR ".join(f"a={number}" for number in range(400))
    assert not compile_selector(many[:MAX_LENGTH].rsplit(" OR", 1)[0]).matches(CAR)
    assert compile_selector("doors" + "+0" * 2000 + "=5").matches(CAR)


def test_no_number_grows_without_bound() -> None:
    product = "*".join(["doors"] * 600)
    assert not compile_selector(f"{product} < 1e308").matches(CAR)  # it is infinite by then
    assert compile_selector("9223372036854775807 + 1 = 9223372036854775808e0").matches(CAR)


def test_no_pattern_takes_long() -> None:
    """With a backtracking matcher this takes hours."""
    assert not compile_selector(f"long LIKE '{'%a' * 60}%b'").matches(envelope({"long": "a" * 20_000}))


def test_equal_texts_share_a_selector_and_answers_are_remembered() -> None:
    selector = compile_selector("color = 'blue'")
    assert compile_selector("color = 'blue'") is selector
    shared = envelope({"color": "blue"})
    assert selector.matches(shared)
    shared.properties.headers = {}  # nobody does; here it shows that the second answer is not computed
    assert selector.matches(shared)
    for _ in range(1000):
        selector.matches(envelope())
    assert len(selector._answers) <= 64
    assert repr(selector) == "<Selector \"color = 'blue'\">"


def test_a_message_that_cannot_be_read_does_not_match() -> None:
    broken = Envelope("", "q", b"\x20\x00\x00")
    assert not compile_selector("color IS NULL").matches(broken)
