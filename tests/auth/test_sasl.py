"""SASL: features/auth 5a "SASL mechanisms", RFC 4616. What is malformed was compared with RabbitMQ 3.10.8."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.auth.contracts import Credentials
from leveret.auth.sasl import MECHANISMS, SaslError, offered, respond
from leveret.conf.settings import Auth

PEER = Credentials(mechanism="", peer_host="192.0.2.1", client_id="c", vhost="/")
CERTIFICATE = {"subject": ((("organizationName", "Acme"),), (("commonName", "alice"),))}


def field(name: bytes, value: bytes, kind: bytes = b"S") -> bytes:
    return bytes([len(name)]) + name + kind + struct.pack(">I", len(value)) + value


LOGIN, PASSWORD = field(b"LOGIN", b"guest"), field(b"PASSWORD", b"secret")


def answer(mechanism: str, response: bytes) -> tuple[str | None, str | None]:
    credentials = respond(mechanism, response, PEER, Auth())
    assert credentials.mechanism == mechanism
    assert (credentials.peer_host, credentials.client_id, credentials.vhost) == ("192.0.2.1", "c", "/")
    return credentials.username, credentials.password


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"\0guest\0secret", ("guest", "secret")),
        (b"guest\0guest\0secret", ("guest", "secret")),  # RFC 4616: to act for oneself
        (b"\0guest\0", ("guest", "")),  # the backend refuses it
        (b"\0\0", ("", "")),
        ("\0jürgen\0schlüssel".encode(), ("jürgen", "schlüssel")),
        (b"\0guest\0\xff", ("guest", "\udcff")),
    ],
)
def test_plain(response: bytes, expected: tuple[str, str]) -> None:
    assert answer("PLAIN", response) == expected


@pytest.mark.parametrize(
    "response",
    [b"", b"\0", b"guest\0secret", b"\0guest\0secret\0", b"\0guest\0sec\0ret", b"admin\0guest\0secret"],
)
def test_plain_malformed(response: bytes) -> None:
    with pytest.raises(SaslError) as raised:
        answer("PLAIN", response)
    assert "secret" not in str(raised.value)
    assert "guest" not in str(raised.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_a_name_that_is_not_utf_8(mechanism: str) -> None:
    response = b"\0\xff\0x" if mechanism == "PLAIN" else field(b"LOGIN", b"\xff") + PASSWORD
    with pytest.raises(SaslError, match="not UTF-8"):
        answer(mechanism, response)


@pytest.mark.parametrize(
    "response",
    [
        LOGIN + PASSWORD,
        PASSWORD + LOGIN,
        b"\x01tt\x01" + LOGIN + b"\x01sU\0\x01" + b"\x01iI\0\0\0\x01" + b"\x01lL" + bytes(8) + PASSWORD,
        LOGIN + field(b"table", b"\x01xt\0", b"F") + b"\x01dD\0\0\0\0\0" + b"\x01vV" + PASSWORD,
        LOGIN + field(b"PASSWORD", b"secret", b"x"),
        LOGIN + field(b"LOGIN", b"other") + PASSWORD,  # the first one, as RabbitMQ
    ],
)
def test_amqplain(response: bytes) -> None:
    assert answer("AMQPLAIN", response) == ("guest", "secret")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        LOGIN,
        PASSWORD,
        field(b"login", b"guest") + PASSWORD,
        struct.pack(">I", len(LOGIN + PASSWORD)) + LOGIN + PASSWORD,  # with a length, which AMQPLAIN has not
        field(b"LOGIN", b"guest", b"?") + PASSWORD,
        b"\x05LOGINI\0\0\0\x01" + PASSWORD,
        b"\xff",
    ],
)
def test_amqplain_malformed(response: bytes) -> None:
    with pytest.raises(SaslError):
        answer("AMQPLAIN", response)


@pytest.mark.parametrize("end", range(len(LOGIN + PASSWORD)))
def test_amqplain_cut_off(end: int) -> None:
    with pytest.raises(SaslError) as raised:
        answer("AMQPLAIN", (LOGIN + PASSWORD)[:end])
    assert "secret" not in str(raised.value)


@given(st.sampled_from(sorted(MECHANISMS)), st.binary(max_size=64))
def test_any_bytes_are_an_answer_or_a_sasl_error(mechanism: str, response: bytes) -> None:
    with contextlib.suppress(SaslError):
        respond(mechanism, response, PEER, Auth())


@given(st.binary(max_size=20), st.lists(st.binary(max_size=12), max_size=3))
def test_amqplain_noise_behind_a_login(noise: bytes, names: list[bytes]) -> None:
    response = LOGIN + b"".join(field(name, noise) for name in names) + PASSWORD + noise
    with contextlib.suppress(SaslError):
        assert respond("AMQPLAIN", response, PEER, Auth()).username == "guest"


def test_external_takes_the_name_of_the_certificate() -> None:
    known = Credentials(mechanism="", certificate=CERTIFICATE)
    found = respond("EXTERNAL", b"mallory", known, Auth())
    assert (found.mechanism, found.username, found.password) == ("EXTERNAL", "CN=alice,O=Acme", None)
    assert respond("EXTERNAL", b"", known, Auth(cert_login_from="common_name")).username == "alice"


@pytest.mark.parametrize("certificate", [None, {}])
def test_external_without_a_certificate(certificate: dict[str, object] | None) -> None:
    with pytest.raises(SaslError, match=r"connection peer presented no TLS \(x\.509\) certificate"):
        respond("EXTERNAL", b"", Credentials(mechanism="", certificate=certificate), Auth())


def test_external_without_a_name() -> None:
    known = Credentials(mechanism="", certificate=CERTIFICATE)
    with pytest.raises(SaslError, match="no name found"):
        respond("EXTERNAL", b"", known, Auth(cert_login_from="subject_alternative_name"))


def test_anonymous_is_off_unless_configured() -> None:
    with pytest.raises(SaslError, match="anonymous logins are off"):
        respond("ANONYMOUS", b"trace@example.org", PEER, Auth())
    found = respond("ANONYMOUS", b"trace@example.org", PEER, Auth(anonymous_user="nobody"))
    assert (found.mechanism, found.username, found.password) == ("ANONYMOUS", "nobody", None)


def test_unknown_mechanisms() -> None:
    for mechanism in ("CRAM-MD5", "plain", ""):
        with pytest.raises(SaslError, match="unknown mechanism"):
            respond(mechanism, b"", PEER, Auth())


@pytest.mark.parametrize(
    ("settings", "has_tls", "expected"),
    [
        (Auth(), False, ["PLAIN", "AMQPLAIN"]),
        (Auth(), True, ["PLAIN", "AMQPLAIN", "EXTERNAL"]),  # also to those without a certificate
        (Auth(mechanisms=("EXTERNAL", "PLAIN")), True, ["EXTERNAL", "PLAIN"]),
        (Auth(mechanisms=("AMQPLAIN",)), True, ["AMQPLAIN"]),
        (Auth(mechanisms=("PLAIN", "PLAIN", "CRAM-MD5")), False, ["PLAIN"]),
        (Auth(mechanisms=("PLAIN", "ANONYMOUS")), False, ["PLAIN"]),
        (Auth(mechanisms=("PLAIN", "ANONYMOUS"), anonymous_user="nobody"), False, ["PLAIN", "ANONYMOUS"]),
    ],
)
def test_what_is_offered(settings: Auth, has_tls: bool, expected: list[str]) -> None:
    assert offered(settings, has_tls=has_tls) == expected


def test_secrets_are_not_shown() -> None:
    found = respond("PLAIN", b"\0guest\0secret", PEER, Auth())
    assert "secret" not in repr(found)
