"""Credentials for an endpoint: a login, a token, OAuth client credentials or a client certificate. They are never shown."""

from __future__ import annotations

import base64
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.json_object import JsonDialect, JsonObject
from leveret.plugins.webhooks.outgoing.connector import Target
from leveret.plugins.webhooks.outgoing.oauth import ClientCredentials

__all__ = ["SHOWN", "ClientCertificate", "authorization", "client_certificate", "hidden"]

SHOWN = frozenset({"type", "username", "token_url", "client_id", "scope", "audience", "style", "certificate"})
"""Members of `auth` and `client_certificate` that are not secret."""
HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
DIALECT = JsonDialect(max_chars=16384)
"""How the members of a subscription are read."""
MIN_HIDDEN = 4  # characters; shorter secrets would match ordinary text
MAX_PEM_CHARS = 65536


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """PEM texts: the certificate with its chain, and its key, which has no passphrase."""

    certificate: str
    key: str = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raise ValueError, whose text never shows the key. A private temporary file is written, because the library reads only files."""
        descriptor, path = tempfile.mkstemp(prefix="leveret-")  # 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{self.certificate}\n{self.key}\n")
            context.load_cert_chain(path, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError):
            raise ValueError(
                "certificate and key are not PEM, have a passphrase, or do not belong together"
            ) from None
        finally:
            os.unlink(path)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def client_certificate(given: Mapping[str, Any]) -> ClientCertificate | None:
    """The certificate in the member `client_certificate`; None without one. Raise InvalidArgument."""
    if not given:
        return None
    members = JsonObject(given, "client_certificate", JsonDialect(max_chars=MAX_PEM_CHARS))
    found = ClientCertificate(members.text("certificate", ""), members.text("key", ""))
    members.refuse_unknown()
    try:
        found.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except ValueError as error:
        raise InvalidArgument(f"client_certificate: {error}") from None
    return found


def authorization(
    given: Mapping[str, Any], checked_target: Callable[[str], Target]
) -> tuple[tuple[tuple[str, str], ...], ClientCredentials | None]:
    """From the member `auth`: constant headers, or OAuth client credentials. checked_target: checks a URL.

    Raise InvalidArgument.
    """
    if not given:
        return (), None
    members = JsonObject(given, "auth", DIALECT)
    kind = members.choice("type", ("basic", "bearer", "oauth2"), "")
    if kind == "oauth2":
        credentials = ClientCredentials(
            checked_target(members.text("token_url", "")),
            members.text("client_id", ""),
            members.text("client_secret", ""),
            members.text("scope", ""),
            members.text("audience", ""),
            members.choice("style", ("basic", "body"), "basic"),
        )
        members.refuse_unknown()
        if not credentials.client_id or not credentials.client_secret:
            raise InvalidArgument("auth needs client_id and client_secret")
        return (), credentials
    if kind == "bearer":
        token = members.text("token", "")
        if not HEADER_VALUE.fullmatch(token):
            raise InvalidArgument("auth.token must be visible ASCII")
        value = f"Bearer {token}"
    else:
        username, password = members.text("username", ""), members.text("password", "")
        if ":" in username:
            raise InvalidArgument("auth.username must not have a colon")
        value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    members.refuse_unknown()
    return (("Authorization", value),), None


def hidden(
    headers: Sequence[tuple[str, str]], auth: Mapping[str, Any], secrets: Sequence[str]
) -> tuple[str, ...]:
    """The secrets that an endpoint may send back, which no record shows; the longest first."""
    found = {value for _, value in headers} | {value.partition(" ")[2] for _, value in headers}
    found |= {one for key, one in auth.items() if key not in SHOWN and isinstance(one, str)}
    for secret in secrets:
        found |= {secret, secret.partition("_")[2]}
    return tuple(sorted((one for one in found if len(one) >= MIN_HIDDEN), key=len, reverse=True))
