"""Verification by HMAC: schemes that describe how senders sign, presets of known senders, and Twilio, which signs the URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from leveret.plugins.webhooks.incoming.signed_request import TOLERANCE_S, SignedRequest, Unverified
from leveret.plugins.webhooks.standard_webhooks import MAX_SIGNATURES, equals_any

__all__ = [
    "ALGORITHMS",
    "CONTENT",
    "PRESETS",
    "HmacScheme",
    "HmacVerifier",
    "TwilioVerifier",
]

ALGORITHMS = ("sha256", "sha512", "sha384", "sha1")
MAX_FORM_FIELDS = 1000
CONTENT = re.compile(r"\{(body|timestamp|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256})\}")


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """How a sender signs.

    header            the header with the signature, in lower case
    encoding          of the signature: "hex" or "base64"
    prefix            before the signature
    content           what is signed, with the placeholders {body}, {timestamp} and {header:NAME}
    timestamp_header  the header with the {timestamp}, in lower case; "" if the content has none
    """

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
    """A timestamp in seconds or milliseconds since the epoch or in RFC 3339, as seconds since the epoch. Raise Unverified."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text) if len(text) < 13 else int(text) / 1000
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Unverified("the timestamp is invalid")
    return when.timestamp()


@dataclass(frozen=True, slots=True)
class HmacVerifier:
    """Verifies by a scheme. The request may be signed with any of the secrets."""

    scheme: HmacScheme
    secrets: tuple[bytes, ...] = field(repr=False)

    def check_head(self, request: SignedRequest) -> None:
        request.header(self.scheme.header)
        if self.scheme.timestamp_header:
            request.check_age(_seconds(request.header(self.scheme.timestamp_header)), self.scheme.tolerance_s)

    def check(self, request: SignedRequest, body: bytes) -> None:
        self.check_head(request)
        content = self._content(request, body)
        expected = [hmac.digest(secret, content, self.scheme.algorithm) for secret in self.secrets]
        values = ",".join(request.headers[self.scheme.header]).split(",")[:MAX_SIGNATURES]
        if not any(equals_any(self._decoded(value.strip()), expected) for value in values):
            raise Unverified("the signature is wrong")

    def _content(self, request: SignedRequest, body: bytes) -> bytes:
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
                pieces.append(request.header(name).encode("utf-8", "surrogateescape"))
        return b"".join(pieces)

    def _decoded(self, text: str) -> bytes:
        """The signature's bytes; b"", which equals no digest, for an invalid one."""
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
    """X-Twilio-Signature: HMAC-SHA1 in base64 of the URL as Twilio knows it, followed by the form's sorted fields; where the query
    has bodySHA256, of the URL alone. public_url: the URL up to the path, such as "https://hooks.example.com"."""

    public_url: str
    secrets: tuple[bytes, ...] = field(repr=False)

    def check_head(self, request: SignedRequest) -> None:
        request.header("x-twilio-signature")

    def check(self, request: SignedRequest, body: bytes) -> None:
        content = self.public_url + request.target
        digest = request.query.get("bodySHA256")
        if digest is not None:
            if not hmac.compare_digest(
                hashlib.sha256(body).hexdigest().encode(), digest.lower().encode("utf-8", "replace")
            ):
                raise Unverified("the body does not have the digest of bodySHA256")
        else:
            content += _sorted_fields(body)
        raw = content.encode("utf-8", "surrogateescape")
        expected = [base64.b64encode(hmac.digest(secret, raw, "sha1")) for secret in self.secrets]
        if not equals_any(request.header("x-twilio-signature").encode("utf-8", "surrogateescape"), expected):
            raise Unverified("the signature is wrong")


def _sorted_fields(body: bytes) -> str:
    """Names and values of a form's fields, sorted and joined; repeated pairs count once. Raise Unverified."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise Unverified("the body is not a form") from None
    return "".join([name + value for name, value in sorted(set(fields))])
