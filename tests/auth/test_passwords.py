"""RabbitMQ's password hashes: features/auth 5a "Password hash", "Password-less user"."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.auth.passwords import ALGORITHMS, DEFAULT_ALGORITHM, algorithm_of, hash_password, verify

VECTOR = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"  # of RabbitMQ's documentation
SIZES = {"sha256": 36, "sha512": 68, "md5": 20}


def test_the_documented_vector() -> None:
    assert hash_password("test12", salt=bytes.fromhex("908DC60A")) == VECTOR
    assert verify("test12", VECTOR)
    assert not verify("test13", VECTOR)
    assert not verify("test12 ", VECTOR)


@pytest.mark.parametrize(("name", "digest"), ALGORITHMS.items())
def test_every_algorithm_is_salt_and_digest(name: str, digest: str) -> None:
    stored = hash_password("pässword", name, b"salt")
    raw = base64.b64decode(stored)
    assert len(raw) == SIZES[digest]
    assert raw == b"salt" + hashlib.new(digest, b"salt" + "pässword".encode()).digest()
    assert verify("pässword", stored, name)
    assert algorithm_of(stored) == name
    for other in ALGORITHMS.keys() - {name}:
        assert not verify("pässword", stored, other)


def test_salts_differ() -> None:
    assert hash_password("x") != hash_password("x")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_what_is_hashed_is_verified(password: str) -> None:
    assert verify(password, hash_password(password))


def test_a_password_may_be_any_bytes() -> None:
    raw = b"\xff\xfe\x80"
    stored = base64.b64encode(b"salt" + hashlib.sha256(b"salt" + raw).digest()).decode()
    assert verify(raw.decode("utf-8", "surrogateescape"), stored)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "rabbit_password_hashing_rot13", ""])
@pytest.mark.parametrize(
    "stored",
    [
        "",
        "!",
        "kI3G",
        "kI3GCg==",
        "AAAA\u20ac",
        VECTOR[:-4],
        VECTOR + "AAAA",
        base64.b64encode(hashlib.sha256(b"\0\0\0\0").digest()).decode(),
    ],
)
def test_a_hash_that_is_none_lets_nobody_in(stored: str, algorithm: str) -> None:
    assert not verify("test12", stored, algorithm)
    assert not verify("", stored, algorithm)


def test_the_empty_password_is_refused_even_if_its_hash_is_stored() -> None:
    stored = base64.b64encode(b"salt" + hashlib.sha256(b"salt").digest()).decode()
    assert not verify("", stored)
    with pytest.raises(ValueError, match="empty password"):
        hash_password("")


def test_half_a_surrogate_pair_is_no_password() -> None:
    assert not verify("\ud800", VECTOR)
    with pytest.raises(UnicodeEncodeError):
        hash_password("\ud800")


@pytest.mark.parametrize("stored", ["", "!", "AAAA", "AAAA\u20ac", VECTOR[:-4]])
def test_no_algorithm_makes_what_is_no_hash(stored: str) -> None:
    with pytest.raises(ValueError, match="a password hash is"):
        algorithm_of(stored)


def test_an_algorithm_that_is_not_rabbitmqs() -> None:
    with pytest.raises(KeyError):
        hash_password("x", "bcrypt")
    assert DEFAULT_ALGORITHM == "rabbit_password_hashing_sha256"
