"""Is a webhook from whom it says? Standard Webhooks, GitHub, Stripe, Slack, Shopify, HMAC in general, passwords, tokens.

All comparisons take the same time whatever they compare. Several secrets may be valid at once, while one is rotated out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from leveret.adapters.http.webhooks.standard import (
    PUBLIC,
    SYMMETRIC,
    decoded_key,
    hmac_signature,
    signed_content,
)

__all__ = ["ALGORITHMS", "PRESETS", "Given", "HmacScheme", "Unverified", "Verifier", "verifier_of"]

ALGORITHMS = ("sha256", "sha512", "sha384", "sha1")
TOLERANCE_S = 300
MAX_SIGNATURES = 20
"""In one request; what stands behind them is not looked at."""


class Unverified(Exception):
    """`str` says why, for the log and for the sender; it never shows a secret. challenge: WWW-Authenticate, or ""."""

    def __init__(self, reason: str, challenge: str = "") -> None:
        super().__init__(reason)
        self.challenge = challenge


@dataclass(frozen=True, slots=True)
class Given:
    """A request, as far as it matters. header names are lower case; now: seconds since the epoch."""

    headers: Mapping[str, Sequence[str]]
    query: Mapping[str, str]
    now: float

    def header(self, name: str) -> str:
        """The first of that name. Raise Unverified if there is none."""
        values = self.headers.get(name)
        if not values:
            raise Unverified(f"the header {name} is missing")
        return values[0]

    def check_time(self, text: str, tolerance_s: float, *, future_too: bool = True) -> None:
        """text: seconds since the epoch. Raise Unverified."""
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise Unverified("the timestamp is no number")
        age = self.now - int(text)
        if age > tolerance_s:
            raise Unverified("the timestamp is too old")
        if future_too and age < -tolerance_s:
            raise Unverified("the timestamp is in the future")


class Verifier(Protocol):
    """Both raise Unverified. `check_head` is asked before the body is read."""

    def check_head(self, given: Given) -> None: ...

    def check(self, given: Given, body: bytes) -> None: ...


def _same_as_any(given: bytes, expected: Sequence[bytes]) -> bool:
    found = False
    for one in expected:
        found |= hmac.compare_digest(given, one)
    return found


@dataclass(frozen=True, slots=True)
class Nobody:
    """No verification: somebody else keeps the door."""

    def check_head(self, given: Given) -> None:
        return

    def check(self, given: Given, body: bytes) -> None:
        return


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """content: what is signed, with {body} and {timestamp}. encoding: hex or base64."""

    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    content: str = "{body}"
    timestamp_header: str = ""
    tolerance_s: float = TOLERANCE_S


PRESETS = {
    "github": HmacScheme("x-hub-signature-256", prefix="sha256="),
    "shopify": HmacScheme("x-shopify-hmac-sha256", encoding="base64"),
    "slack": HmacScheme(
        "x-slack-signature",
        prefix="v0=",
        content="v0:{timestamp}:{body}",
        timestamp_header="x-slack-request-timestamp",
    ),
}


@dataclass(frozen=True, slots=True)
class HmacVerifier:
    scheme: HmacScheme
    secrets: tuple[bytes, ...] = field(repr=False)

    def check_head(self, given: Given) -> None:
        given.header(self.scheme.header)
        if self.scheme.timestamp_header:
            given.check_time(given.header(self.scheme.timestamp_header), self.scheme.tolerance_s)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)
        scheme = self.scheme
        timestamp = given.header(scheme.timestamp_header).encode() if scheme.timestamp_header else b""
        before, _, after = scheme.content.partition("{body}")
        content = (
            before.encode().replace(b"{timestamp}", timestamp)
            + body
            + after.encode().replace(b"{timestamp}", timestamp)
        )
        expected = [hmac.digest(secret, content, scheme.algorithm) for secret in self.secrets]
        values = ",".join(given.headers[scheme.header]).split(",")[:MAX_SIGNATURES]
        if not any(_same_as_any(self._decoded(value.strip()), expected) for value in values):
            raise Unverified("the signature is wrong")

    def _decoded(self, text: str) -> bytes:
        """b"", which is no signature, for what is none."""
        if not text.startswith(self.scheme.prefix):
            return b""
        text = text[len(self.scheme.prefix) :]
        try:
            if self.scheme.encoding == "hex":
                return binascii.unhexlify(text)
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return b""


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
        if not any(_same_as_any(one, expected) for one in signatures):
            raise Unverified("the signature is wrong")


@dataclass(frozen=True, slots=True)
class StandardVerifier:
    """Standard Webhooks: v1 with symmetric keys (whsec_), v1a with public ones (whpk_)."""

    keys: tuple[bytes, ...] = field(repr=False)
    public_keys: tuple[Any, ...] = field(repr=False, default=())
    tolerance_s: float = TOLERANCE_S

    def check_head(self, given: Given) -> None:
        given.header("webhook-id")
        given.header("webhook-signature")
        given.check_time(given.header("webhook-timestamp"), self.tolerance_s)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)
        content = signed_content(given.header("webhook-id"), given.header("webhook-timestamp"), body)
        expected = [hmac_signature(key, content) for key in self.keys]
        for value in given.header("webhook-signature").split()[:MAX_SIGNATURES]:
            version, _, text = value.partition(",")
            try:
                signature = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if version == "v1" and _same_as_any(signature, expected):
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
        if not (_same_as_any(password, self.passwords) & is_user):
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
        if not _same_as_any(text.strip().encode("utf-8", "surrogateescape"), self.tokens):
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
) -> Verifier:
    """kind: standard, stripe, hmac (with scheme), basic, bearer, token (with header) or none. Raise ValueError."""
    raw = tuple(one.encode() for one in secrets)
    match kind:
        case "standard":
            return _standard(secrets, tolerance_s)
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


def _standard(secrets: Sequence[str], tolerance_s: float) -> StandardVerifier:
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
    return StandardVerifier(tuple(keys), tuple(public_keys), tolerance_s)
