"""A source of webhooks: who may send, and what becomes of it. The value of a runtime parameter, checked."""

from __future__ import annotations

import base64
import re
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.webhooks.incoming_template import Template
from leveret.adapters.http.webhooks.signatures import (
    ALGORITHMS,
    PRESETS,
    TOLERANCE_S,
    HmacScheme,
    Verifier,
    verifier_of,
)
from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.core.vhost import Vhost

__all__ = ["COMPONENT", "MASK", "Source", "Sources", "masked", "normalized"]

COMPONENT = "webhook-source"
MASK = "********"
NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
MAX_SECRETS, MAX_SECRET_CHARS = 10, 4096
MAX_HEADERS = 64
MAX_TEMPLATE_CHARS = 1024
MAX_BODY = 1 << 20
TYPES = ("standard", "github", "stripe", "slack", "shopify", "hmac", "basic", "bearer", "token", "none")
NEVER_FORWARDED = frozenset({
    "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "expect", "host",
    "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# What a kind of sender is known to send: which headers go along, what tells one delivery from another.
FORWARDED = {
    "standard": ("webhook-id", "webhook-timestamp"),
    "github": ("x-github-*",),
    "shopify": ("x-shopify-topic", "x-shopify-shop-domain", "x-shopify-webhook-id", "x-shopify-api-version"),
}
DELIVERY_IDS = {
    "standard": "{header:webhook-id}",
    "github": "{header:x-github-delivery}",
    "shopify": "{header:x-shopify-webhook-id}",
    "stripe": "{body:/id}",
    "slack": "{body:/event_id}",
}


@dataclass(frozen=True, slots=True)
class Source:
    """routing_key, headers, dedup_key: templates. forwarded: patterns of header names, in lower case."""

    name: str
    type: str
    is_enabled: bool
    verifier: Verifier = field(repr=False)
    exchange: str
    routing_key: Template
    headers: tuple[tuple[str, Template], ...]
    forwarded: tuple[str, ...]
    withheld: str
    dedup_key: Template | None
    dedup_window_s: float
    max_body: int
    is_mandatory: bool
    is_persistent: bool
    status: int
    origins: tuple[str, ...]

    @classmethod
    def of(cls, name: str, value: Any) -> Source:
        """Raise InvalidArgument, naming the field, never showing a secret."""
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"webhook source name '{name}' must be 1 to 200 of A-Z a-z 0-9 . _ -")
        given = _Members(value)
        kind, verifier, withheld = _verification(given.take("verification"))
        exchange, queue = given.take("exchange"), given.take("queue")
        if (exchange is None) == (queue is None) or not isinstance(
            queue if exchange is None else exchange, str
        ):
            raise InvalidArgument("a webhook source needs either 'exchange' or 'queue', a string")
        key = given.take("routing_key")
        if queue is not None and key is not None:
            raise InvalidArgument("routing_key is for an exchange: a queue has none")
        if queue is not None:
            routing_key = Template(queue.replace("{", "{{").replace("}", "}}"))
        else:
            routing_key = _template("routing_key", "" if key is None else key)
        dedup_key, window_s = _deduplication(given.take("deduplication"), kind)
        source = cls(
            name=name,
            type=kind,
            is_enabled=given.flag("enabled", True),
            verifier=verifier,
            exchange="" if exchange is None or exchange == "amq.default" else exchange,
            routing_key=routing_key,
            headers=_headers(given.take("headers")),
            forwarded=_patterns(given.take("forward_headers"), FORWARDED.get(kind, ())),
            withheld=withheld,
            dedup_key=dedup_key,
            dedup_window_s=window_s,
            max_body=int(given.number("max_body", MAX_BODY, 1, 1 << 30)),
            is_mandatory=given.flag("mandatory", True),
            is_persistent=given.flag("persistent", True),
            status=int(given.number("status", 200, 200, 204)),
            origins=_origins(given.take("allowed_origins")),
        )
        given.finish()
        return source

    def may_forward(self, header: str) -> bool:
        """header: in lower case."""
        return (
            header not in NEVER_FORWARDED
            and header != self.withheld
            and any(fnmatchcase(header, pattern) for pattern in self.forwarded)
        )


class _Members:
    """A JSON object's members, taken one by one; what is left in the end nobody knows. All raise InvalidArgument."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"{where or 'a webhook source'} must be an object")
        self._left = dict(value)
        self._where = f"{where}." if where else ""

    def take(self, name: str, default: Any = None) -> Any:
        value = self._left.pop(name, default)
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise InvalidArgument(f"{self._where}{name} must be true or false")
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            raise InvalidArgument(f"{self._where}{name} must be a number from {minimum:g} to {maximum:g}")
        return value

    def text(self, name: str, default: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            raise InvalidArgument(f"{self._where}{name} is not what it should be")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.take(name, default)
        if value not in choices:
            raise InvalidArgument(f"{self._where}{name} must be one of {', '.join(choices)}")
        return str(value)

    def finish(self) -> None:
        if self._left:
            raise InvalidArgument(f"there is no field {self._where}{min(self._left)}")


def _verification(value: Any) -> tuple[str, Verifier, str]:
    """The type, who verifies, and the header with the proof, which goes no further."""
    if value is None:
        raise InvalidArgument('verification is missing; to take everything from everybody, {"type": "none"}')
    given = _Members(value, "verification")
    kind = given.choice("type", TYPES, "")
    found = _secrets(given.take("secrets", []), is_needed=kind != "none")
    preset = PRESETS.get(kind)
    username = given.text("username", "") if kind == "basic" else ""
    header = given.text("header", "", TOKEN).lower() if kind == "token" else ""
    tolerance_s = given.number("tolerance_s", TOLERANCE_S, 1, 86400) if kind in TIMED else TOLERANCE_S
    scheme = _scheme(given) if kind == "hmac" else preset
    given.finish()
    if kind == "slack" and preset is not None:
        scheme = HmacScheme(
            preset.header, preset.algorithm, preset.encoding, preset.prefix, preset.content,
            preset.timestamp_header, tolerance_s,
        )  # fmt: skip
    try:
        verifier = verifier_of(
            "hmac" if scheme is not None else kind, found, scheme=scheme, username=username, header=header,
            tolerance_s=tolerance_s,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidArgument(f"verification.secrets: {error}") from None
    return kind, verifier, scheme.header if scheme is not None else header


TIMED = ("standard", "stripe", "slack")


def _scheme(given: _Members) -> HmacScheme:
    content = given.text("content", "{body}")
    timestamp_header = given.take("timestamp_header")
    if content.count("{body}") != 1:
        raise InvalidArgument("verification.content must have {body} in it, once")
    if timestamp_header is not None and not (
        isinstance(timestamp_header, str) and TOKEN.fullmatch(timestamp_header)
    ):
        raise InvalidArgument("verification.timestamp_header is no header name")
    if ("{timestamp}" in content) != (timestamp_header is not None):
        raise InvalidArgument("verification.timestamp_header and {timestamp} in content need each other")
    return HmacScheme(
        header=given.text("header", "", TOKEN).lower(),
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


def _template(where: str, value: Any) -> Template:
    if not isinstance(value, str) or len(value) > MAX_TEMPLATE_CHARS:
        raise InvalidArgument(f"{where} must be a string of at most {MAX_TEMPLATE_CHARS} characters")
    try:
        return Template(value)
    except ValueError as error:
        raise InvalidArgument(f"{where}: {error}") from None


def _headers(value: Any) -> tuple[tuple[str, Template], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping) or len(value) > MAX_HEADERS:
        raise InvalidArgument(f"headers must be an object with at most {MAX_HEADERS} members")
    for name in value:
        if not 0 < len(name.encode("utf-8", "replace")) <= 255 or name in ("CC", "BCC"):
            raise InvalidArgument(f"headers: {name!r} cannot be set")
    return tuple((name, _template(f"headers.{name}", one)) for name, one in value.items())


def _patterns(value: Any, default: tuple[str, ...]) -> tuple[str, ...]:
    if value is None:
        return default
    is_list = isinstance(value, list) and len(value) <= MAX_HEADERS
    if not is_list or not all(isinstance(one, str) and PATTERN.fullmatch(one) for one in value):
        raise InvalidArgument(f'forward_headers must be a list of at most {MAX_HEADERS} names, as "x-acme-*"')
    return tuple(one.lower() for one in value)


def _deduplication(value: Any, kind: str) -> tuple[Template | None, float]:
    """On, where a kind of sender says which delivery it is; {"key": ""}: off."""
    given = _Members({} if value is None else value, "deduplication")
    key = given.take("key", DELIVERY_IDS.get(kind, ""))
    window_s = given.number("window_s", 86400, 1, 2_592_000)
    given.finish()
    return (None if key == "" else _template("deduplication.key", key)), window_s


def _origins(value: Any) -> tuple[str, ...]:
    if value is None:
        return ("*",)
    is_list = isinstance(value, list) and len(value) <= MAX_HEADERS
    if not is_list or not all(isinstance(one, str) and one for one in value):
        raise InvalidArgument("allowed_origins must be a list of host names, or of *")
    return tuple(one.lower() for one in value)


# -- as it is kept, and as it is shown


def normalized(value: Any, previous: Any = None) -> dict[str, Any]:
    """Masked secrets have their previous values again; where there is none, one is made. Raise InvalidArgument."""
    if not isinstance(value, Mapping):
        raise InvalidArgument("a webhook source must be an object")
    kept = dict(value)
    verification = kept.get("verification")
    if not isinstance(verification, Mapping):
        return kept
    before = previous.get("verification") if isinstance(previous, Mapping) else None
    old = before.get("secrets") if isinstance(before, Mapping) else None
    old = old if isinstance(old, list) else []
    verification = kept["verification"] = dict(verification)
    given = verification.get("secrets")
    kind = verification.get("type")
    if given is None and isinstance(before, Mapping) and before.get("type") == kind and old:
        verification["secrets"] = old
    elif given is None and kind in ("standard", "github", "hmac", "basic", "bearer", "token"):
        verification["secrets"] = [_new_secret(kind)]
    elif isinstance(given, list):
        if any(one == MASK and index >= len(old) for index, one in enumerate(given)):
            raise InvalidArgument("verification.secrets are masked, and there are no earlier values")
        verification["secrets"] = [old[index] if one == MASK else one for index, one in enumerate(given)]
    return kept


def _new_secret(kind: str) -> str:
    if kind == "standard":
        return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()
    return randomness.token_urlsafe(32)


def masked(value: Any) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("verification"), Mapping):
        return value
    verification = dict(value["verification"])
    if isinstance(verification.get("secrets"), list):
        verification["secrets"] = [MASK] * len(verification["secrets"])
    return {**value, "verification": verification}


class Sources:
    """The sources of all virtual hosts, compiled; and the owner of their parameters (`Broker.components`)."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, str], tuple[Any, Source]] = {}

    def find(self, vhost: Vhost, name: str) -> Source | None:
        """None: there is none, or it was set while nobody checked it, and is wrong."""
        value = vhost.parameters.get((COMPONENT, name))
        if value is None:
            return None
        known = self._compiled.get((vhost.name, name))
        if known is not None and known[0] is value:
            return known[1]
        try:
            source = Source.of(name, value)
        except InvalidArgument:
            return None
        self._compiled[vhost.name, name] = value, source
        return source

    # -- ParameterComponent

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        kept = normalized(value, vhost.parameters.get((COMPONENT, name)))
        Source.of(name, kept)
        return kept

    def masked(self, value: Any) -> Any:
        return masked(value)
