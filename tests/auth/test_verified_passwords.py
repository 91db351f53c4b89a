"""Passwords that were verified a moment ago."""

from __future__ import annotations

from leveret.auth.verified_passwords import VerifiedPasswords


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_knows_what_it_was_told_and_for_how_long() -> None:
    clock = Clock()
    verified = VerifiedPasswords(15.0, clock)
    assert not verified.knows("u", "secret", "hash")
    verified.remember("u", "secret", "hash")
    assert verified.knows("u", "secret", "hash")
    for other in (("v", "secret", "hash"), ("u", "other", "hash"), ("u", "secret", "hash2"), ("u", "", "")):
        assert not verified.knows(*other)
    clock.now += 14.9
    assert verified.knows("u", "secret", "hash")
    clock.now += 0.1
    assert not verified.knows("u", "secret", "hash")


def test_a_change_of_the_user_ends_it() -> None:
    verified = VerifiedPasswords(15.0, Clock())
    verified.remember("u", "secret", "hash")
    verified.remember("v", "secret", "hash")
    verified.forget("u")
    verified.forget("nobody")
    assert not verified.knows("u", "secret", "hash")
    assert verified.knows("v", "secret", "hash")


def test_it_is_bounded_and_forgets_who_has_been_away_for_longest() -> None:
    verified = VerifiedPasswords(15.0, Clock(), capacity=3)
    for user in "abc":
        verified.remember(user, "secret", "hash")
    verified.remember("a", "secret", "hash")
    verified.remember("d", "secret", "hash")
    assert [user for user in "abcd" if verified.knows(user, "secret", "hash")] == ["a", "c", "d"]
    assert len(verified) == 3


def test_many_passwords_of_one_user_are_one_entry() -> None:
    verified = VerifiedPasswords(15.0, Clock())
    for number in range(100):
        verified.remember("u", f"token-{number}", "")
    assert len(verified) == 1


def test_it_can_be_off() -> None:
    verified = VerifiedPasswords(0.0, Clock())
    verified.remember("u", "secret", "hash")
    assert not verified.knows("u", "secret", "hash")
    assert len(verified) == 0


def test_it_keeps_and_shows_no_password() -> None:
    verified = VerifiedPasswords(15.0, Clock())
    verified.remember("u", "secret", "hash")
    assert "secret" not in repr(verified)
    assert "secret" not in repr(vars(verified))
    again = VerifiedPasswords(15.0, Clock())
    again.remember("u", "secret", "hash")
    assert vars(again)["_known"]["u"][0] != vars(verified)["_known"]["u"][0]  # a key of its own


def test_any_text_can_be_asked_for() -> None:
    verified = VerifiedPasswords(15.0, Clock())
    assert not verified.knows("u", "\ud800", "hash")
    assert not verified.knows("\udcff", "\udcff", "")
