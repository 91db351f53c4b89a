"""Parses the member `verification` of a source, which says who may send."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.json_object import JsonObject
from leveret.plugins.webhooks.incoming.hmac_schemes import ALGORITHMS, CONTENT, PRESETS, HmacScheme
from leveret.plugins.webhooks.incoming.signed_request import TOLERANCE_S, Verifier
from leveret.plugins.webhooks.incoming.verifiers import verifier_of

__all__ = ["GENERATED", "verification_of"]

TYPES = (
    "standard", "svix", "github", "stripe", "slack", "shopify", "twilio", "zoom", "hmac", "basic", "bearer", "token",
    "none",
)  # fmt: skip
TIMED = ("standard", "svix", "stripe", "slack", "zoom")
GENERATED = ("standard", "github", "hmac", "basic", "bearer", "token")
"""The types whose secret is generated if none is given; senders of the other types choose it."""
MAX_SECRETS, MAX_SECRET_CHARS = 10, 4096
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
"""The name of a header."""
PUBLIC_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,260}/?")


def verification_of(value: Any) -> tuple[str, Verifier, str, tuple[str, ...]]:
    """The type, the verifier, the header with the secret or signature (which is not forwarded), and the secrets.

    Raise InvalidArgument.
    """
    if value is None:
        raise InvalidArgument('verification is missing; {"type": "none"} accepts every request')
    given = JsonObject(value, "verification")
    kind = given.choice("type", TYPES, "")
    found = _secrets(given.get("secrets", []), is_needed=kind != "none")
    preset = PRESETS.get(kind)
    username = given.text("username", "") if kind == "basic" else ""
    header = (
        given.text("header", "", check=TOKEN.fullmatch, rule="must be the name of a header").lower()
        if kind == "token"
        else ""
    )
    public_url = given.text("public_url", "") if kind == "twilio" else ""
    if kind == "twilio" and not PUBLIC_URL.fullmatch(public_url):
        raise InvalidArgument(
            "verification.public_url must be the URL up to the path, such as https://hooks.example.com"
        )
    tolerance_s = given.number("tolerance_s", TOLERANCE_S, 1, 86400) if kind in TIMED else TOLERANCE_S
    scheme = _scheme(given) if kind == "hmac" else preset
    given.refuse_unknown()
    if kind in TIMED and preset is not None:
        scheme = replace(preset, tolerance_s=tolerance_s)
    try:
        verifier = verifier_of(
            "hmac" if scheme is not None else kind, found, scheme=scheme, username=username, header=header,
            tolerance_s=tolerance_s, public_url=public_url.rstrip("/"),
        )  # fmt: skip
    except ValueError as error:
        raise InvalidArgument(f"verification.secrets: {error}") from None
    return kind, verifier, scheme.header if scheme is not None else header, tuple(found)


def _scheme(given: JsonObject) -> HmacScheme:
    content = given.text("content", "{body}")
    timestamp_header = given.get("timestamp_header", None)
    if CONTENT.split(content)[1::2].count("body") != 1:
        raise InvalidArgument("verification.content must contain {body} exactly once")
    if any(brace in piece for piece in CONTENT.split(content)[::2] for brace in "{}"):
        raise InvalidArgument(
            "verification.content may contain only {body}, {timestamp} and {header:NAME} in braces"
        )
    if timestamp_header is not None and not (
        isinstance(timestamp_header, str) and TOKEN.fullmatch(timestamp_header)
    ):
        raise InvalidArgument("verification.timestamp_header must be the name of a header")
    if ("{timestamp}" in content) != (timestamp_header is not None):
        raise InvalidArgument(
            "verification.timestamp_header and {timestamp} in content must be given together"
        )
    return HmacScheme(
        header=given.text("header", "", check=TOKEN.fullmatch, rule="must be the name of a header").lower(),
        algorithm=given.choice("algorithm", ALGORITHMS, "sha256"),
        encoding=given.choice("encoding", ("hex", "base64"), "hex"),
        prefix=given.text("prefix", ""),
        content=content,
        timestamp_header=(timestamp_header or "").lower(),
        tolerance_s=given.number("tolerance_s", TOLERANCE_S, 1, 86400),
    )


def _secrets(value: Any, *, is_needed: bool) -> list[str]:
    is_list = isinstance(value, list) and len(value) <= MAX_SECRETS
    if not is_list or not all(isinstance(one, str) and 0 < len(one) <= MAX_SECRET_CHARS for one in value):
        raise InvalidArgument(f"verification.secrets must be a list of at most {MAX_SECRETS} strings")
    if is_needed != bool(value):
        raise InvalidArgument(
            "verification.secrets are missing" if is_needed else "verification 'none' has no secrets"
        )
    return list(value)
