"""A source of webhooks, as the checked value of a runtime parameter: who may send, and how requests become messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from leveret.core.errors import InvalidArgument
from leveret.core.json_object import JsonObject
from leveret.plugins.webhooks.incoming import COMPONENT
from leveret.plugins.webhooks.incoming.challenges import Challenge, challenge_of
from leveret.plugins.webhooks.incoming.masking import masked, normalized
from leveret.plugins.webhooks.incoming.template import Template
from leveret.plugins.webhooks.incoming.verification import verification_of

if TYPE_CHECKING:
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.incoming.signed_request import Verifier
__all__ = ["Source", "Sources"]

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
MAX_HEADERS = 64
MAX_TEMPLATE_CHARS = 1024
MAX_BODY = 1 << 20
NEVER_FORWARDED = frozenset({
    "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "expect", "host",
    "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# Defaults by type of verification: the headers to forward, and the template of a delivery's id.
FORWARDED = {
    "standard": ("webhook-id", "webhook-timestamp"),
    "svix": ("svix-id", "svix-timestamp"),
    "github": ("x-github-*",),
    "shopify": ("x-shopify-topic", "x-shopify-shop-domain", "x-shopify-webhook-id", "x-shopify-api-version"),
}
DELIVERY_IDS = {
    "standard": "{header:webhook-id}",
    "svix": "{header:svix-id}",
    "twilio": "{header:i-twilio-idempotency-token}",
    "github": "{header:x-github-delivery}",
    "shopify": "{header:x-shopify-webhook-id}",
    "stripe": "{body:/id}",
    "slack": "{body:/event_id}",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A source.

    type                             of its verification
    routing_key, headers, dedup_key  templates
    forwarded                        patterns of the header names to forward, in lower case
    withheld                         the header with the secret or the signature, in lower case, which is never forwarded
    """

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
    challenge: Challenge | None = field(repr=False)

    @classmethod
    def of(cls, name: str, value: Any) -> Source:
        """Raise InvalidArgument, which names the member and never shows a secret."""
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"webhook source name '{name}' must be 1 to 200 of A-Z a-z 0-9 . _ -")
        given = JsonObject(value, what="a webhook source")
        kind, verifier, withheld, secrets = verification_of(given.get("verification", None))
        exchange, queue = given.get("exchange", None), given.get("queue", None)
        if (exchange is None) == (queue is None) or not isinstance(
            queue if exchange is None else exchange, str
        ):
            raise InvalidArgument("a webhook source needs either 'exchange' or 'queue', a string")
        key = given.get("routing_key", None)
        if queue is not None and key is not None:
            raise InvalidArgument("routing_key cannot be given together with queue")
        if queue is not None:
            routing_key = Template(queue.replace("{", "{{").replace("}", "}}"))
        else:
            routing_key = _template("routing_key", "" if key is None else key)
        dedup_key, window_s = _deduplication(given.get("deduplication", None), kind)
        source = cls(
            name=name,
            type=kind,
            is_enabled=given.flag("enabled", True),
            verifier=verifier,
            exchange="" if exchange is None or exchange == "amq.default" else exchange,
            routing_key=routing_key,
            headers=_headers(given.get("headers", None)),
            forwarded=_patterns(given.get("forward_headers", None), FORWARDED.get(kind, ())),
            withheld=withheld,
            dedup_key=dedup_key,
            dedup_window_s=window_s,
            max_body=int(given.number("max_body", MAX_BODY, 1, 1 << 30)),
            is_mandatory=given.flag("mandatory", True),
            is_persistent=given.flag("persistent", True),
            status=int(given.number("status", 200, 200, 204)),
            origins=_origins(given.get("allowed_origins", None)),
            challenge=challenge_of(kind, given.get("challenge", None), secrets),
        )
        given.refuse_unknown()
        return source

    def may_forward(self, header: str) -> bool:
        """Whether a header (in lower case) becomes a header of the message."""
        return (
            header not in NEVER_FORWARDED
            and header != self.withheld
            and any(fnmatchcase(header, pattern) for pattern in self.forwarded)
        )


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
        raise InvalidArgument(
            f'forward_headers must be a list of at most {MAX_HEADERS} names, such as "x-acme-*"'
        )
    return tuple(one.lower() for one in value)


def _deduplication(value: Any, kind: str) -> tuple[Template | None, float]:
    """The key and its window in seconds. The default key depends on the type; {"key": ""} switches deduplication off."""
    given = JsonObject({} if value is None else value, "deduplication")
    key = given.get("key", DELIVERY_IDS.get(kind, ""))
    window_s = given.number("window_s", 86400, 1, 2_592_000)
    given.refuse_unknown()
    return (None if key == "" else _template("deduplication.key", key)), window_s


def _origins(value: Any) -> tuple[str, ...]:
    if value is None:
        return ("*",)
    is_list = isinstance(value, list) and len(value) <= MAX_HEADERS
    if not is_list or not all(isinstance(one, str) and one for one in value):
        raise InvalidArgument("allowed_origins must be a list of host names, in which * allows all")
    return tuple(one.lower() for one in value)


class Sources:
    """The sources of all virtual hosts, parsed when they are used first, and the owner of their parameters (`Broker.components`)."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], tuple[Any, Source]] = {}

    def find(self, vhost: Vhost, name: str) -> Source | None:
        """The source; None if it does not exist, or if its parameter is invalid because it was set while the plugin was not running."""
        value = vhost.parameters.get((COMPONENT, name))
        if value is None:
            return None
        known = self._parsed.get((vhost.name, name))
        if known is not None and known[0] is value:
            return known[1]
        try:
            source = Source.of(name, value)
        except InvalidArgument:
            return None
        self._parsed[vhost.name, name] = value, source
        return source

    # -- ParameterComponent

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        kept = normalized(value, vhost.parameters.get((COMPONENT, name)))
        Source.of(name, kept)
        return kept

    def masked(self, value: Any) -> Any:
        return masked(value)
