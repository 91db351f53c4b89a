"""Verifiers: Standard Webhooks, Stripe, passwords and tokens; those by HMAC in general are in hmac_schemes.py.

Secrets and signatures are compared in constant time (`equals_any`). Several secrets may be valid at once, while one is rotated out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from leveret.plugins.webhooks.incoming.hmac_schemes import HmacScheme, HmacVerifier, TwilioVerifier
from leveret.plugins.webhooks.incoming.signed_request import TOLERANCE_S, SignedRequest, Unverified, Verifier
from leveret.plugins.webhooks.standard_webhooks import MAX_SIGNATURES, VerificationKeys, equals_any

__all__ = ["verifier_of"]


@dataclass(frozen=True, slots=True)
class NoVerifier:
    """Accepts every request: access to the listener is restricted by other means."""

    def check_head(self, request: SignedRequest) -> None:
        return

    def check(self, request: SignedRequest, body: bytes) -> None:
        return


@dataclass(frozen=True, slots=True)
class StripeVerifier:
    """Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX...], over "SECONDS.BODY"; the key is the whole text of the secret."""

    secrets: tuple[bytes, ...] = field(repr=False)
    tolerance_s: float = TOLERANCE_S

    def _parts(self, request: SignedRequest) -> tuple[str, list[bytes]]:
        timestamp = ""
        signatures: list[bytes] = []
        for part in request.header("stripe-signature").split(","):
            name, _, value = part.strip().partition("=")
            if name == "t" and not timestamp:
                timestamp = value
            elif name == "v1" and len(signatures) < MAX_SIGNATURES:
                signatures.append(value.encode("utf-8", "surrogateescape"))
        # Stripe's own libraries accept timestamps of a clock that is ahead, too.
        request.check_time(timestamp, self.tolerance_s, future_too=False)
        return timestamp, signatures

    def check_head(self, request: SignedRequest) -> None:
        self._parts(request)

    def check(self, request: SignedRequest, body: bytes) -> None:
        timestamp, signatures = self._parts(request)
        content = timestamp.encode() + b"." + body
        expected = [hmac.digest(secret, content, "sha256").hex().encode() for secret in self.secrets]
        if not any(equals_any(one, expected) for one in signatures):
            raise Unverified("the signature is wrong")


@dataclass(frozen=True, slots=True)
class StandardVerifier:
    """Standard Webhooks. prefix: of the headers' names; Svix uses svix- instead of webhook-."""

    keys: VerificationKeys
    tolerance_s: float = TOLERANCE_S
    prefix: str = "webhook-"

    def check_head(self, request: SignedRequest) -> None:
        request.header(f"{self.prefix}id")
        request.header(f"{self.prefix}signature")
        request.check_time(request.header(f"{self.prefix}timestamp"), self.tolerance_s)

    def check(self, request: SignedRequest, body: bytes) -> None:
        self.check_head(request)
        webhook_id, timestamp, signatures = [
            request.header(self.prefix + name) for name in ("id", "timestamp", "signature")
        ]
        if not self.keys.have_signed(webhook_id, timestamp, body, signatures):
            raise Unverified("the signature is wrong")


@dataclass(frozen=True, slots=True)
class BasicVerifier:
    """HTTP Basic authentication with a fixed username."""

    username: str
    passwords: tuple[bytes, ...] = field(repr=False)

    def check_head(self, request: SignedRequest) -> None:
        challenge = 'Basic realm="webhooks", charset="UTF-8"'
        scheme, _, value = request.headers.get("authorization", [""])[0].partition(" ")
        try:
            username, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            username, colon, password = b"", b"", b""
        if scheme.lower() != "basic" or not colon:
            raise Unverified("this needs a Basic login", challenge)
        is_user = hmac.compare_digest(username, self.username.encode())
        if not (equals_any(password, self.passwords) & is_user):
            raise Unverified("the login is wrong", challenge)

    def check(self, request: SignedRequest, body: bytes) -> None:
        self.check_head(request)


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """The secret itself, in a header or, with header "", as a bearer token (which CloudEvents also allows in the query)."""

    header: str
    tokens: tuple[bytes, ...] = field(repr=False)

    def check_head(self, request: SignedRequest) -> None:
        challenge = "" if self.header else "Bearer"
        if self.header:
            text = request.header(self.header)
        else:
            scheme, _, text = request.headers.get("authorization", [""])[0].partition(" ")
            if scheme.lower() != "bearer":
                text = request.query.get("access_token", "")
            if not text:
                raise Unverified("this needs a bearer token", challenge)
        if not equals_any(text.strip().encode("utf-8", "surrogateescape"), self.tokens):
            raise Unverified("the token is wrong", challenge)

    def check(self, request: SignedRequest, body: bytes) -> None:
        self.check_head(request)


def verifier_of(
    kind: str,
    secrets: Sequence[str],
    *,
    scheme: HmacScheme | None = None,
    username: str = "",
    header: str = "",
    tolerance_s: float = TOLERANCE_S,
    public_url: str = "",
) -> Verifier:
    """The verifier of a kind: standard, svix, stripe, twilio (with public_url), hmac (with scheme), basic (with username), bearer,
    token (with header) or none. Raise ValueError for invalid secrets."""
    raw = tuple(one.encode() for one in secrets)
    match kind:
        case "standard":
            return StandardVerifier(VerificationKeys.of(secrets), tolerance_s)
        case "svix":
            return StandardVerifier(VerificationKeys.of(secrets), tolerance_s, "svix-")
        case "twilio":
            return TwilioVerifier(public_url, raw)
        case "stripe":
            return StripeVerifier(raw, tolerance_s)
        case "hmac":
            assert scheme is not None
            return HmacVerifier(scheme, raw)
        case "basic":
            return BasicVerifier(username, raw)
        case "bearer" | "token":
            return TokenVerifier(header, raw)
    return NoVerifier()
