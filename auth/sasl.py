"""SASL mechanisms, sans-IO: a response in, credentials out (RFC 4616, RFC 4422, and AMQPLAIN)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from leveret.auth.contracts import Credentials

if TYPE_CHECKING:
    from leveret.conf.settings import Auth

__all__ = ["MECHANISMS", "SaslError", "offered", "respond"]


class SaslError(Exception):
    """A response that is none; the text is for the log."""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _plain(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """[authzid] NUL authcid NUL password; the authzid is ignored, as RabbitMQ does."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise SaslError("a PLAIN response has two NULs")
    return replace(known, username=_text(parts[1]), password=_text(parts[2]))


def _amqplain(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """A field table's body, without its length: LOGIN and PASSWORD, long strings."""
    found: dict[bytes, bytes] = {}
    pos = 0
    try:
        while pos < len(response):
            end = pos + 1 + response[pos]
            name = response[pos + 1 : end]
            if response[end : end + 1] != b"S":
                raise SaslError("an AMQPLAIN response has long strings only")
            (size,) = struct.unpack_from(">I", response, end + 1)
            pos = end + 5 + size
            if pos > len(response):
                raise SaslError("the AMQPLAIN response is cut off")
            found[name] = response[end + 5 : pos]
        return replace(known, username=_text(found[b"LOGIN"]), password=_text(found[b"PASSWORD"]))
    except (IndexError, struct.error) as error:
        raise SaslError("the AMQPLAIN response is cut off") from error
    except KeyError as error:
        raise SaslError(f"the AMQPLAIN response has no {error}") from error


def _external(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """The name is in the verified certificate: its distinguished name, or its common name (auth.cert_login_from)."""
    if not known.certificate:
        raise SaslError("connection peer presented no TLS (x.509) certificate")
    name = certificate_name(known.certificate, getattr(settings, "cert_login_from", "common_name"))
    if not name:
        raise SaslError("no name found in the certificate")
    return replace(known, username=name)


SHORT_NAMES = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "emailAddress": "emailAddress",
}


def certificate_name(certificate: Mapping[str, object], source: str) -> str | None:
    """distinguished_name (RFC 4514: the last part first), common_name, or the first DNS subject_alternative_name."""
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    pairs = [(str(name), str(value)) for part in subject for name, value in part]
    if source == "common_name":
        return next((value for name, value in pairs if name == "commonName"), None)
    if source == "subject_alternative_name":
        names = certificate.get("subjectAltName", ())
        assert isinstance(names, tuple)
        return next((str(value) for kind, value in names if kind == "DNS"), None)
    return ",".join(f"{SHORT_NAMES.get(name, name)}={value}" for name, value in reversed(pairs)) or None


def _anonymous(response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """Everybody is the configured anonymous user; None is configured unless an operator says so."""
    user = getattr(settings, "anonymous_user", "")
    if not user:
        raise SaslError("anonymous logins are off")
    return replace(known, username=user)


MECHANISMS: dict[str, Callable[[bytes, Credentials, Auth], Credentials]] = {
    "PLAIN": _plain,
    "AMQPLAIN": _amqplain,
    "EXTERNAL": _external,
    "ANONYMOUS": _anonymous,
}


def offered(settings: Auth, *, has_tls: bool) -> list[str]:
    """In the configured order; EXTERNAL on TLS doors only."""
    return [name for name in settings.mechanisms if name in MECHANISMS and (has_tls or name != "EXTERNAL")]


def respond(mechanism: str, response: bytes, known: Credentials, settings: Auth) -> Credentials:
    """What the response says, added to what is known of the peer. Raise SaslError."""
    found = MECHANISMS.get(mechanism)
    if found is None:
        raise SaslError(f"unknown mechanism {mechanism!r}")
    return found(response, known, settings)
