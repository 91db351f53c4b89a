"""The reader of JSON objects: types, limits, defaults, and errors that name the member and the rule."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.core.errors import BrokerError, InvalidArgument
from leveret.core.json_object import REQUIRED, JsonDialect, JsonObject, Rule, Violation

READERS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any, list[Any], str]] = [
    # reader, arguments after the name, keywords, an accepted value, refused values, the text
    ("text", (), {}, "a", [1, True, ["a"]], "x must be a string"),
    ("text", (), {"max_chars": 3}, "abc", ["abcd"], "x must be a string"),
    ("text", (), {"max_bytes": 3}, "abc", ["ab\u00fc"], "x is longer than 3 bytes"),
    ("text", (), {"check": str.isupper, "rule": "must be loud"}, "A", ["a", 1, ""], "x must be loud"),
    ("text", ("",), {"check": str.isupper}, "A", ["", None], "x must be a string"),
    ("choice", (("a", "b"),), {}, "b", ["c", 1, ["a"]], "x must be one of a, b"),
    ("choice", (("a", "b"), ""), {}, "b", ["", None], "x must be one of a, b"),
    ("choice", (("a", "b"),), {"rule": "must be a or b"}, "b", ["c"], "x must be a or b"),
    ("flag", (), {}, True, [1, 0, "true"], "x must be true or false"),
    ("integer", (), {}, -5, [True, 1.0, "1"], "x must be an integer"),
    ("integer", (3, 1, 5), {}, 5, [0, 6, 2.5], "x must be an integer from 1 to 5"),
    ("number", (), {}, 2.5, [True, "1"], "x must be a number"),
    ("number", (3.0, 0.1, 5.0), {}, 0.1, [0, 5.1, float("nan")], "x must be a number from 0.1 to 5"),
    ("list", (), {}, [1], [{}, "a", 1], "x must be a list"),
    ("list", (), {"minimum": 1, "maximum": 2, "rule": "must be 1 or 2"}, [1], [[], [1, 2, 3]], "x must be 1 or 2"),
    ("words", (), {}, ["a"], [[1], 1, {}], "x must be a list of strings"),
    ("mapping", (), {}, {"a": 1}, [[], "a"], "x must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "arguments", "named", "accepted", "refused", "text"), READERS)
def test_readers_return_values_of_their_type_and_refuse_others_by_name(
    reader: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    accepted: Any,
    refused: list[Any],
    text: str,
) -> None:
    assert getattr(JsonObject({"x": accepted}), reader)("x", *arguments, **named) == accepted
    for value in refused:
        with pytest.raises(InvalidArgument) as caught:
            getattr(JsonObject({"x": value}), reader)("x", *arguments, **named)
        assert str(caught.value) == text


@pytest.mark.parametrize(
    "reader", ["get", "value", "text", "flag", "integer", "number", "list", "words", "mapping"]
)
def test_a_member_without_a_default_must_be_there(reader: str) -> None:
    for values in ({}, {"x": None}) if reader != "value" else ({},):
        with pytest.raises(InvalidArgument, match=r"^a\.x is missing$"):
            getattr(JsonObject(values, "a"), reader)("x")


@pytest.mark.parametrize("reader", ["get", "text", "flag", "integer", "number", "list", "words", "mapping"])
def test_a_member_that_is_not_there_or_null_has_its_default(reader: str) -> None:
    for values in ({}, {"x": None}):
        assert getattr(JsonObject(values), reader)("x", None) is None
        assert "x" not in JsonObject(values)
    assert JsonObject({}).integer("x", 3, 1, 5) == 3
    assert JsonObject({"x": None}).value("x") is None


def test_null_is_a_value_where_the_dialect_says_so() -> None:
    given = JsonObject({"x": None}, dialect=JsonDialect(null_is_absent=False))
    assert "x" in given
    assert given.get("x", 1) is None
    with pytest.raises(InvalidArgument, match="x must be true or false"):
        given.flag("x", False)


def test_text_forms_of_values_are_accepted_where_the_dialect_says_so() -> None:
    query = JsonObject(
        {"f": "true", "i": "-12", "n": "1.5", "bad": "x", "long": "1" * 21, "nan": "nan"},
        dialect=JsonDialect(accepts_text=True),
    )
    assert (query.flag("f"), query.integer("i"), query.number("n")) == (True, -12, 1.5)
    for name in ("bad", "long"):
        with pytest.raises(InvalidArgument, match=f"{name} must be an integer"):
            query.integer(name)
    for name in ("bad", "nan"):
        with pytest.raises(InvalidArgument, match=f"{name} must be a number"):
            query.number(name)


def test_words_are_a_list_or_a_string_with_commas() -> None:
    assert JsonObject({"x": "a, b,,c "}).words("x") == ["a", "b", "c"]


def test_members_that_nobody_read_are_refused() -> None:
    given = JsonObject({"a": 1, "c": 2, "b": 3}, "retry")
    given.integer("a")
    with pytest.raises(InvalidArgument, match=r"^there is no field retry\.b$"):
        given.refuse_unknown()
    given.get("b"), given.get("c")
    given.refuse_unknown()
    query = JsonObject({"a": "1"}, dialect=JsonDialect(noun="parameter"))
    with pytest.raises(InvalidArgument, match=r"^there is no parameter a$"):
        query.refuse_unknown()


def test_what_is_no_object_is_refused() -> None:
    values: tuple[object, ...] = ([], "a", None, 1)
    for value in values:
        with pytest.raises(InvalidArgument, match=r"^it must be an object$"):
            JsonObject(value)
        with pytest.raises(InvalidArgument, match=r"^a webhook must be an object$"):
            JsonObject(value, what="a webhook")
        with pytest.raises(InvalidArgument, match=r"^retry must be an object$"):
            JsonObject(value, "retry", what="a webhook")


def test_nested_objects_have_the_path_and_the_dialect_of_the_outer_one() -> None:
    dialect = JsonDialect(max_chars=3)
    outer = JsonObject({"b": {"c": {"d": "long"}}, "e": 1}, "a", dialect)
    inner = outer.nested("b").nested("c")
    with pytest.raises(InvalidArgument, match=r"^a\.b\.c\.d must be a string$"):
        inner.text("d")
    with pytest.raises(InvalidArgument, match=r"^a\.e must be an object$"):
        outer.nested("e")
    assert outer.nested("absent").integer("x", 1) == 1


def test_errors_are_made_by_the_dialect_from_the_rule_and_the_value() -> None:
    class Refused(BrokerError):
        def __init__(self, violation: Violation) -> None:
            super().__init__(str(violation))
            self.violation = violation

    given = JsonObject({"x": "secret", "y": 1}, "a", JsonDialect(error=Refused))
    with pytest.raises(Refused) as caught:
        given.integer("x", 1)
    violation = caught.value.violation
    assert (violation.rule, violation.path, violation.value) == (Rule.INTEGER, "a.x", "secret")
    assert "secret" not in repr(violation)
    with pytest.raises(Refused, match=r"^a\.z is missing$") as caught:
        given.text("z", REQUIRED)
    assert caught.value.violation.rule is Rule.MISSING
    with pytest.raises(Refused, match=r"^a\.y must be even$") as caught:
        raise given.error("y", "must be even")
    assert caught.value.violation.rule is Rule.OTHER
