"""Patterns mean what they mean in RabbitMQ, and the short cut answers as the engine does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.auth.patterns import (
    MAX_PATTERN_BYTES,
    InvalidPattern,
    Pattern,
    PatternTooSlow,
    compile_pattern,
)

# Pattern, name, and what Erlang 25's `re:run(Name, Pattern, [{capture, none}])`, which RabbitMQ 3.10 calls, answered;
# None: it refused the pattern.
AS_ERLANG = [
    (".*", "", True),
    (".*", "a", True),
    ("^$", "a", False),
    ("", "a", True),
    ("q1", "xq12", True),
    ("^q1$", "q1", True),
    ("^q1$", "q1\n", True),
    ("^a|b$", "xb", True),
    ("^(a|b)$", "b", True),
    ("^(a|b)$", "ab", False),
    ("^amq\\.", "amq.x", True),
    ("^amq\\.", "amqx", False),
    ("[[:alpha:]]+", "1a", True),
    ("^[[:alpha:]]+$", "1a", False),
    ("^[^[:space:]]+$", "a b", False),
    ("^\\h+$", " \t", True),
    ("^\\H+$", "ab", True),
    ("^\\Qa.b\\E$", "a.b", True),
    ("^\\Qa.b\\E$", "axb", False),
    ("^\\p{Lu}", "A", True),
    ("^\\p{Lu}", "a", False),
    ("^\\p{L}+$", "ab", True),
    ("^(?<n>a)b$", "ab", True),
    ("^(?P<n>a)b$", "ab", True),
    ("^(?<n>a)\\k<n>$", "aa", True),
    ("^(?>a+)b$", "aab", True),
    ("^a++a$", "aaa", False),
    ("^a*+b$", "aab", True),
    ("^(?!amq\\.)", "amq.topic", False),
    ("^(?!amq\\.)", "orders", True),
    ("(?<=a)b", "ab", True),
    ("(?i)ABC", "abc", True),
    ("^.$", "é", False),
    ("^..$", "é", True),
    ("^\\w+$", "é", False),
    ("^\\x41$", "A", True),
    ("^\\x{41}$", "A", True),
    ("\\Aq\\z", "q", True),
    ("q\\Z", "q\n", True),
    ("^a\\Rb$", "a\nb", True),
    ("^(a(?1)?b)$", "aabb", True),
    ("^(?(?=a)ab|cd)$", "cd", True),
    ("a{2,}", "aa", True),
    ("a{,2}", "a{,2}", True),
    ("^[a\\]b]+$", "a]", True),
    ("^a.c$", "a\nc", False),
    ("(?s)^a.c$", "a\nc", True),
    ("(?x)^ a b $", "ab", True),
    ("^\\d+\\.\\d+$", "1.2", True),
    ("\\bfoo\\b", "a foo b", True),
    ("^(foo|bar)\\.(?:eu|us)\\.[0-9]{3}$", "bar.us.123", True),
    ("a#b", "a#b", True),
    ("^\\N+$", "ab", True),
    ("^a\\.b\\.#$", "a.b.#", True),
    ("^ü$", "ü", True),
    ("[äö]", "ö", True),
    ("^\\x4$", "\x04", True),
    ("^\\x{0041}$", "A", True),
    ("^\\x$", "\x00", True),
    ("\\u0041", "A", None),
    ("\\U", "U", None),
    ("^\\Q\\x{41}\\E$", "A", False),
    ("^\\Q\\x{41}\\E$", "\\x{41}", True),
    ("^\\o{101}$", "A", True),
    ("^\\101$", "A", True),
    ("^\\e$", "\x1b", True),
    ("^[\\x{41}-\\x{43}]+$", "ABC", True),
    ("\\x{100}", "a", None),
    ("^\\\\x{2}$", "\\xx", True),
    ("(", "(", None),
    ("[[:nope:]]", "a", None),
    ("*a", "a", None),
    ("\\Qa", "a", True),
    ("^(a|b)", "bx", True),
    ("(a|^b)", "xb", False),
    ("^(?:a|b).*$", "bx", True),
    ("(a|b)$", "xb", True),
    ("^|a", "x", True),
    ("a|", "x", True),
]


@pytest.mark.parametrize(("pattern", "name", "expected"), AS_ERLANG)
def test_a_pattern_means_what_it_means_to_rabbitmq(pattern: str, name: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(InvalidPattern):
            compile_pattern(pattern)
    else:
        assert compile_pattern(pattern).search(name) is expected
        assert compile_pattern(pattern).search_by_engine(name) is expected


LITERAL = st.lists(
    st.sampled_from(["a", "b", "ab", "x", r"\.", r"\-", r"\$", r"\*", r"\^", "-", "ä", ""]), max_size=3
).map("".join)
BRANCH = st.tuples(
    st.sampled_from(["", "^", "^.*", ".*"]), LITERAL, st.sampled_from(["", "$", ".*", ".*$"])
).map("".join)
GROUP = st.tuples(
    st.sampled_from(["", "^"]), st.sampled_from(["(", "(?:"]), st.lists(LITERAL | BRANCH, min_size=1, max_size=3).map("|".join),
    st.sampled_from([")", ")$", ").*", ").*$"]),
).map("".join)  # fmt: skip
SIMPLE = st.lists(BRANCH, min_size=1, max_size=3).map("|".join) | GROUP
NAME = st.text(st.sampled_from("abx.-$*^ä\n|"), max_size=6)


@given(pattern=SIMPLE, name=NAME)
def test_the_short_cut_answers_as_the_engine(pattern: str, name: str) -> None:
    compiled = Pattern(pattern)
    assert compiled.search(name) is compiled.search_by_engine(name), pattern


@given(pattern=st.text(st.sampled_from(r"ab^$.*|()\+?[]{}1,-:"), max_size=8), name=NAME)
def test_any_pattern_answers_as_the_engine_or_is_refused(pattern: str, name: str) -> None:
    try:
        compiled = Pattern(pattern)
    except InvalidPattern:
        return
    assert compiled.search(name) is compiled.search_by_engine(name), pattern


@pytest.mark.parametrize(
    "pattern", ["", ".*", "^.*", "^.*$", "^orders", r"^orders\.", "^orders.*", "^q$", r"\.log$", "^(a|b|c)$", "^a|^b", r"^amq\.(gen|default)"]
)  # fmt: skip
def test_ordinary_patterns_need_no_engine(pattern: str) -> None:
    assert Pattern(pattern).is_simple is (pattern != r"^amq\.(gen|default)")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("^(a+)+$", "a" * 255 + "!"), (r"^(a|a)*$", "a" * 254 + "b"), ("^(a|aa)+$", "a" * 60_000 + "!")],
)
def test_a_search_has_an_end(pattern: str, name: str) -> None:
    with contextlib.suppress(PatternTooSlow):
        assert not Pattern(pattern).search(name)


@pytest.mark.parametrize("limit", ["(*LIMIT_MATCH=4000000000)", "(*LIMIT_MATCH=50001)"])
def test_a_pattern_does_not_raise_its_limit(limit: str) -> None:
    with pytest.raises(PatternTooSlow):
        Pattern(f"{limit}^(a|a)*$").search("a" * 254 + "b")


def test_a_refusal_says_why_and_where() -> None:
    with pytest.raises(InvalidPattern) as info:
        compile_pattern("ab(c")
    assert (info.value.reason, info.value.position) == ("missing closing parenthesis", 4)
    with pytest.raises(InvalidPattern, match=str(MAX_PATTERN_BYTES)):
        compile_pattern("ä" * (MAX_PATTERN_BYTES // 2 + 1))


def test_names_that_are_not_utf_8_are_searched_as_bytes() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert compile_pattern("^..$").search(name)
    assert compile_pattern(r"^\xff").search(name)
    assert Pattern("Q1", is_caseless=True).search("q1")
