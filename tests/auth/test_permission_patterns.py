"""The permission triple and topic permissions: features/auth 5b "Regexp semantics", "Topic permissions"."""

from __future__ import annotations

import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.auth.contracts import Permission
from leveret.auth.patterns import MAX_PATTERN_BYTES
from leveret.auth.permissions import (
    Permissions,
    TopicPermissions,
    check_pattern,
    matches,
)

CONFIGURE, WRITE, READ = Permission.CONFIGURE, Permission.WRITE, Permission.READ
ENDLESS = (
    r"^(.*)(.*)(.*)(.*)(.*)x\1\2\3\4\5$",
    "a" * 127 + "x" + "a" * 126 + "b",
)  # most of a minute, unbounded


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("q1", "xq12", True),  # a search, not anchored
        ("^q1$", "xq12", False),
        ("^q1$", "q1", True),
        (".*", "", True),
        (".*", "anything", True),
        ("", "q1", False),  # as ^$
        ("", "", True),
        ("^$", "q1", False),
        ("Q1", "q1", False),  # case-sensitive
        ("(?i)Q1", "q1", True),
        (r"^(amq\.default|orders)$", "amq.default", True),
        (r"^amq\.gen.*$", "amq.gen-Xa2", True),
        (r"^(?!amq\.).*", "amq.topic", False),
        (r"\Aq\z", "q", True),  # PCRE's, which Python's own lack
        (r"^\p{Lu}", "Ä", True),
        (r"^[[:digit:]]+$", "42", True),
        (r"^(?<n>a)b$", "ab", True),
    ],
)
def test_search(pattern: str, name: str, expected: bool) -> None:
    assert check_pattern(pattern) is None
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[", "(", "*a", "a{2,1}", "(?P<n", r"\u0041", "(?<=a+", ")"])
def test_a_pattern_that_is_none_denies(pattern: str) -> None:
    assert not matches(pattern, pattern)
    assert not matches(pattern, "a")
    assert "not a valid regular expression" in str(check_pattern(pattern))


def test_a_pattern_is_bounded_in_bytes() -> None:
    longest = "ä" * (MAX_PATTERN_BYTES // 2)
    assert check_pattern(longest) is None
    assert matches(longest, longest)
    assert str(MAX_PATTERN_BYTES) in str(check_pattern(longest + "a"))
    assert not matches(longest + "a", longest + "a")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"^(a+)+$", "a" * 255 + "!"),
        (r"^(\w+\.?)*$", "a" * 254 + "!"),
        (r"(x+x+)+y", "x" * 255),
        (r"^(a|a)*$", "a" * 254 + "b"),
        ENDLESS,
    ],
)
def test_no_name_keeps_the_broker_busy(pattern: str, name: str) -> None:
    # RabbitMQ: match limit. With backtracking and no bound each of these would not end.
    started = time.process_time()
    assert not matches(pattern, name)
    assert time.process_time() - started < 1.0


def test_giving_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not matches(*ENDLESS)
    assert "takes too long" in caplog.text


def test_the_triple() -> None:
    row = Permissions(configure="^c", write="^w", read="")
    assert [row.allow(permission, "c") for permission in (CONFIGURE, WRITE, READ)] == [True, False, False]
    assert [row.allow(permission, "w") for permission in (CONFIGURE, WRITE, READ)] == [False, True, False]


def test_topic_variables() -> None:
    row = TopicPermissions(write="^{vhost}/{username}/{client_id}$", read=".*")
    variables = {"username": "ann", "vhost": "v", "client_id": "c-1"}
    assert row.allow(WRITE, "v/ann/c-1", variables)
    assert not row.allow(WRITE, "v/bob/c-1", variables)
    assert row.allow(READ, "anything", variables)
    assert not row.allow(CONFIGURE, "anything", variables)


def test_unknown_variables_stand_for_themselves() -> None:
    # reference 3.10.8: {client_id} stays what it is where no protocol knows one
    row = TopicPermissions(write="^{client_id}-{username}$", read="a{2}")
    assert row.allow(WRITE, "{client_id}-ann", {"username": "ann"})
    assert row.allow(READ, "aa", {"2": "never"})


@pytest.mark.parametrize("value", [".*", "a|b", "^", "[", "(?i)", "\\", "{vhost}", "$", "a b", "#", "{2}"])
def test_the_value_of_a_variable_is_escaped(value: str) -> None:
    row = TopicPermissions(write="^{username}$", read="^{username}.{vhost}$")
    variables = {"username": value, "vhost": "v"}
    assert row.allow(WRITE, value, variables)
    assert not row.allow(WRITE, "anybody", variables)
    assert row.allow(READ, f"{value}.v", variables)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.text(max_size=40))
def test_a_user_reaches_only_what_has_its_name(username: str, other: str) -> None:
    row = TopicPermissions(write=r"^{username}\z", read="")
    assert row.allow(WRITE, username, {"username": username})
    assert row.allow(WRITE, other, {"username": username}) is (other == username)


def test_a_pattern_that_is_too_long_once_it_is_filled_denies() -> None:
    row = TopicPermissions(write="{username}" * 10, read="")
    assert not row.allow(WRITE, "u" * 2000, {"username": "u" * 200})
