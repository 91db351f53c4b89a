"""SASL mechanisms, sans-IO: credentials from a client's response (RFC 4616, RFC 4422 appendix A, and AMQPLAIN)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from leveret.auth.certificates import certificate_name
from leveret.auth.contracts import Credentials

if TYPE_CHECKING:
    from leveret.conf.settings import Auth
__all__ = ["MECHANISMS", "Mechanism", "SaslError", "offered", "respond"]

Mechanism = Callable[[bytes, Credentials, "Auth"], Credentials]


class SaslError(Exception):
    """An invalid response. The text is for the log, and quotes nothing of the response."""


def _login(known: Credentials, username: bytes, password: bytes) -> Credentials:
    """A password may be any bytes. A name must be UTF-8, because it is shown in listings and logs."""
    try:
        name = username.decode()
    except UnicodeDecodeError:
        raise SaslError("the user name is not UTF-8") from None
    return replace(known, username=name, password=password.decode("utf-8", "surrogateescape"))


def _plain(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """[authzid] NUL authcid NUL password (RFC 4616). Acting for another user is not supported."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise SaslError("a PLAIN response has two NULs")
    authzid, authcid, password = parts
    if authzid not in (b"", authcid):
        raise SaslError("the PLAIN response asks to act for another user")
    return _login(known, authcid, password)


# Sizes of the values of a field table by their type; values of the other types are preceded by their size.
FIXED = {
    **dict.fromkeys(b"tbB", 1), **dict.fromkeys(b"sUu", 2), **dict.fromkeys(b"Iif", 4), **dict.fromkeys(b"LldT", 8),
    ord("D"): 5, ord("V"): 0,
}  # fmt: skip
SIZED = b"SxFA"


def _amqplain(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """A field table without its length, with LOGIN and PASSWORD. Other fields are ignored."""
    found: dict[bytes, bytes] = {}
    pos = 0
    try:
        while pos < len(response):
            end = pos + 1 + response[pos]
            name, kind, pos = response[pos + 1 : end], response[end], end + 1
            if kind in SIZED:
                (size,) = struct.unpack_from(">I", response, pos)
                pos += 4
            elif kind in FIXED:
                size = FIXED[kind]
            else:
                raise SaslError("an AMQPLAIN response is a field table")
            if pos + size > len(response):
                raise SaslError("the AMQPLAIN response is cut off")
            if kind in b"Sx":
                found.setdefault(name, response[pos : pos + size])
            pos += size
    except (IndexError, struct.error):
        raise SaslError("the AMQPLAIN response is cut off") from None
    if b"LOGIN" not in found or b"PASSWORD" not in found:
        raise SaslError("the AMQPLAIN response has no LOGIN or no PASSWORD")
    return _login(known, found[b"LOGIN"], found[b"PASSWORD"])


def _external(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """The name in the verified certificate, chosen by auth.cert_login_from. The response is ignored."""
    if not known.certificate:
        raise SaslError("connection peer presented no TLS (x.509) certificate")
    name = certificate_name(
        known.certificate,
        settings.cert_login_from,
    )
    if not name:
        raise SaslError("no name found in the certificate")
    return replace(known, username=name, password=None)


def _anonymous(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """The configured anonymous user. The response, a trace (RFC 4505), is ignored."""
    if not settings.anonymous_user:
        raise SaslError("anonymous logins are off")
    return replace(known, username=settings.anonymous_user, password=None)


MECHANISMS: dict[str, Mechanism] = {
    "PLAIN": _plain,
    "AMQPLAIN": _amqplain,
    "EXTERNAL": _external,
    "ANONYMOUS": _anonymous,
}


def offered(settings: Auth, *, has_tls: bool) -> list[str]:
    """The mechanisms in the configured order: EXTERNAL on TLS listeners only, ANONYMOUS only with `auth.anonymous_user`."""
    return [
        name
        for name in dict.fromkeys(settings.mechanisms)
        if name in MECHANISMS
        and (has_tls or name != "EXTERNAL")
        and (name != "ANONYMOUS" or settings.anonymous_user)
    ]


def respond(mechanism: str, response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """Add what a response says to what is known of the client. Raise SaslError."""
    found = MECHANISMS.get(mechanism)
    if found is None:
        raise SaslError(f"unknown mechanism {mechanism!r}")
    return replace(found(response, known, settings), mechanism=mechanism)
