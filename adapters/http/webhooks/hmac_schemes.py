"""Signatures by HMAC, in whatever way a sender makes them: presets, a scheme in general, and Twilio's, which signs the URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from leveret.adapters.http.webhooks.given import TOLERANCE_S, Given, Unverified, same_as_any

__all__ = [
    "ALGORITHMS",
    "CONTENT",
    "MAX_SIGNATURES",
    "PRESETS",
    "HmacScheme",
    "HmacVerifier",
    "TwilioVerifier",
]

ALGORITHMS = ("sha256", "sha512", "sha384", "sha1")
MAX_SIGNATURES = 20
"""In one request; what stands behind them is not looked at."""
MAX_FORM_FIELDS = 1000
CONTENT = re.compile(r"\{(body|timestamp|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256})\}")


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """content: what is signed, with {body}, {timestamp} and {header:NAME}. encoding: hex or base64."""

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
    "zoom": HmacScheme(
        "x-zm-signature",
        prefix="v0=",
        content="v0:{timestamp}:{body}",
        timestamp_header="x-zm-request-timestamp",
    ),
}


def _seconds(text: str) -> float:
    """Of a timestamp in seconds or milliseconds since the epoch, or as RFC 3339 has it. Raise Unverified."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text) if len(text) < 13 else int(text) / 1000
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Unverified("the timestamp is none")
    return when.timestamp()


@dataclass(frozen=True, slots=True)
class HmacVerifier:
    scheme: HmacScheme
    secrets: tuple[bytes, ...] = field(repr=False)

    def check_head(self, given: Given) -> None:
        given.header(self.scheme.header)
        if self.scheme.timestamp_header:
            given.check_age(_seconds(given.header(self.scheme.timestamp_header)), self.scheme.tolerance_s)

    def check(self, given: Given, body: bytes) -> None:
        self.check_head(given)
        content = self._content(given, body)
        expected = [hmac.digest(secret, content, self.scheme.algorithm) for secret in self.secrets]
        values = ",".join(given.headers[self.scheme.header]).split(",")[:MAX_SIGNATURES]
        if not any(same_as_any(self._decoded(value.strip()), expected) for value in values):
            raise Unverified("the signature is wrong")

    def _content(self, given: Given, body: bytes) -> bytes:
        scheme = self.scheme
        if scheme.content == "{body}":
            return body
        pieces: list[bytes] = []
        for number, piece in enumerate(CONTENT.split(scheme.content)):
            if number % 2 == 0:
                pieces.append(piece.encode())
            elif piece == "body":
                pieces.append(body)
            else:
                name = (
                    scheme.timestamp_header if piece == "timestamp" else piece.removeprefix("header:").lower()
                )
                pieces.append(given.header(name).encode("utf-8", "surrogateescape"))
        return b"".join(pieces)

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
class TwilioVerifier:
    """X-Twilio-Signature: base64 HMAC-SHA1 of the URL as Twilio knows it, and of a form's fields, sorted; or, with
    bodySHA256 in the query, of the URL alone. public_url: what stands before the path, as "https://hooks.example.com"."""

    public_url: str
    secrets: tuple[bytes, ...] = field(repr=False)

    def check_head(self, given: Given) -> None:
        given.header("x-twilio-signature")

    def check(self, given: Given, body: bytes) -> None:
        content = self.public_url + given.target
        digest = given.query.get("bodySHA256")
        if digest is not None:
            if not hmac.compare_digest(
                hashlib.sha256(body).hexdigest().encode(), digest.lower().encode("utf-8", "replace")
            ):
                raise Unverified("the body is another one")
        else:
            content += _sorted_fields(body)
        raw = content.encode("utf-8", "surrogateescape")
        expected = [base64.b64encode(hmac.digest(secret, raw, "sha1")) for secret in self.secrets]
        if not same_as_any(given.header("x-twilio-signature").encode("utf-8", "surrogateescape"), expected):
            raise Unverified("the signature is wrong")


def _sorted_fields(body: bytes) -> str:
    """Names and values, one behind the other; a value that is there twice counts once. Raise Unverified."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise Unverified("the body is no form") from None
    return "".join([name + value for name, value in sorted(set(fields))])
