"""Is a webhook from whom it says? Standard Webhooks, Stripe, HMAC (hmac_schemes.py), passwords, tokens.

All comparisons take the same time whatever they compare. Several secrets may be valid at once, while one is rotated out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from leveret.adapters.http.webhooks.given import TOLERANCE_S, Given, Unverified, Verifier, same_as_any
from leveret.adapters.http.webhooks.hmac_schemes import (
    ALGORITHMS,
    MAX_SIGNATURES,
    PRESETS,
    HmacScheme,
    HmacVerifier,
    TwilioVerifier,
)
from leveret.adapters.http.webhooks.standard import (
    PUBLIC,
    SYMMETRIC,
    decoded_key,
    hmac_signature,
    signed_content,
)

__all__ = ["ALGORITHMS", "PRESETS", "Given", "HmacScheme", "Unverified", "Verifier", "verifier_of"]


@dataclass(frozen=True, slots=True)
class Nobody:
    """No verification: somebody else keeps the listener."""

    def check_head(self, given: Given) -> None:
        return

    def check(self, given: Given, body: bytes) -> None:
        return


@dataclass(frozen=True, slots=True)
class StripeVerifier:
    """Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX...], over "SECONDS.BODY"; the key is the whole text of the secret."""

    secrets: tuple[bytes, ...] = field(repr=False)
    tolerance_s: float = TOLERANCE_S

    def _parts(self, given: Given) -> tuple[str, list[bytes]]:
        timestamp = ""
        signatures: list[bytes] = []
        for part in given.header("stripe-signature").split(","):
            name, _, value = part.strip().partition("=")
            if name == "t" and not timestamp:
                timestamp = value
            elif name == "v1" and len(signatures) < MAX_SIGNATURES:
                signatures.append(value.encode("utf-8", "surrogateescape"))
        # As Stripe's own libraries: a clock that is ahead does no harm.
        given.check_time(timestamp, self.tolerance_s, future_too=False)
        return timestamp, signatures

    def check_head(self, given: Given) -> None:
        self._parts(given)

    def check(self, given: Given, body: bytes) -> None:
        timestamp, signatures = self._parts(given)
        content = timestamp.encode() + b"." + body
        expected = [hmac.digest(secret, content, "sha256").hex().encode() for secret in self.secrets]
        if not any(same_as_any(one, expected) for one in signatures):
            raise Unverified("the signature is wrong")


@dataclass(frozen=True, slots=True)
class StandardVerifier:
    """Standard Webhooks: v1 with symmetric keys (whsec_), v1a with public ones (whpk_). Svix has its headers' names."""

    keys: tuple[bytes, ...] = field(repr=False)
    public_keys: tuple[Any, ...] = field(repr=False, default=())
    tolerance_s: float = TOLERANCE_S
    prefix: str = "webhook-"

    def check_head(self, given: Given) -> None:
        given.header(f"{self.prefix}id")
        given.header(f"{self.prefix}signature")
        given.check_time(given.header(f"{self.prefix}timestamp"), self.tolerance_s)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)
        content = signed_content(
            given.header(f"{self.prefix}id"), given.header(f"{self.prefix}timestamp"), body
        )
        expected = [hmac_signature(key, content) for key in self.keys]
        for value in given.header(f"{self.prefix}signature").split()[:MAX_SIGNATURES]:
            version, _, text = value.partition(",")
            try:
                signature = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if version == "v1" and same_as_any(signature, expected):
                return
            if version == "v1a" and any(_is_signed(key, signature, content) for key in self.public_keys):
                return
        raise Unverified("the signature is wrong")


def _is_signed(key: Any, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class BasicVerifier:
    username: str
    passwords: tuple[bytes, ...] = field(repr=False)

    def check_head(self, given: Given) -> None:
        challenge = 'Basic realm="webhooks", charset="UTF-8"'
        scheme, _, value = given.headers.get("authorization", [""])[0].partition(" ")
        try:
            username, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            username, colon, password = b"", b"", b""
        if scheme.lower() != "basic" or not colon:
            raise Unverified("this needs a Basic login", challenge)
        is_user = hmac.compare_digest(username, self.username.encode())
        if not (same_as_any(password, self.passwords) & is_user):
            raise Unverified("the login is wrong", challenge)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """A secret as it is: in a header, or as a bearer token (CloudEvents has it in the query, too). header "": bearer."""

    header: str
    tokens: tuple[bytes, ...] = field(repr=False)

    def check_head(self, given: Given) -> None:
        challenge = "" if self.header else "Bearer"
        if self.header:
            text = given.header(self.header)
        else:
            scheme, _, text = given.headers.get("authorization", [""])[0].partition(" ")
            if scheme.lower() != "bearer":
                text = given.query.get("access_token", "")
            if not text:
                raise Unverified("this needs a bearer token", challenge)
        if not same_as_any(text.strip().encode("utf-8", "surrogateescape"), self.tokens):
            raise Unverified("the token is wrong", challenge)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)


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
    """kind: standard, svix, twilio (with public_url), stripe, hmac (with scheme), basic, bearer, token (with header) or none. Raise ValueError."""
    raw = tuple(one.encode() for one in secrets)
    match kind:
        case "standard" | "svix":
            return _standard(secrets, tolerance_s, "webhook-" if kind == "standard" else "svix-")
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
    return Nobody()


def _standard(secrets: Sequence[str], tolerance_s: float, prefix: str) -> StandardVerifier:
    keys, public_keys = [], []
    for text in secrets:
        if not text.startswith(PUBLIC):
            key = decoded_key(text, SYMMETRIC)
            if len(key) < 16:
                raise ValueError(f"a secret of {len(key)} bytes is too short")
            keys.append(key)
            continue
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError:
            raise ValueError("whpk_ keys need the package 'cryptography'") from None
        key = decoded_key(text, PUBLIC)
        if len(key) != 32:
            raise ValueError(f"an ed25519 key has 32 bytes, this one {len(key)}")
        public_keys.append(Ed25519PublicKey.from_public_bytes(key))
    return StandardVerifier(tuple(keys), tuple(public_keys), tolerance_s, prefix)
