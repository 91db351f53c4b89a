"""A subscription: the checked value of a runtime parameter of the component "webhook"."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leveret.core.errors import InvalidArgument
from leveret.core.json_object import JsonObject
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy, AddressRefused, canonical, is_host_name
from leveret.plugins.webhooks.outgoing.circuit_breaker import BreakerRules
from leveret.plugins.webhooks.outgoing.connector import Target
from leveret.plugins.webhooks.outgoing.credentials import (
    DIALECT,
    HEADER_VALUE,
    ClientCertificate,
    authorization,
    client_certificate,
    hidden,
)
from leveret.plugins.webhooks.outgoing.retry_policy import RetrySchedule
from leveret.plugins.webhooks.standard_webhooks import MAX_SECRETS, Secret

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.oauth import ClientCredentials
    from leveret.plugins.webhooks.outgoing.template import Template
__all__ = [
    "FORMATS",
    "RateLimit",
    "Subscription",
    "TemplateRefused",
]

FORMATS = ("raw", "json", "cloudevents-binary", "cloudevents-structured", "template")
NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
RESERVED_HEADERS = frozenset({
    "connection", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
"""Headers that cannot be set, because the client sets them; content-type has a member of its own."""
MAX_HEADERS, MAX_HEADER_CHARS = 50, 4096
MAX_DELAYS = 100
ORDERS = ("", "queue", "routing_key", "message_id", "correlation_id")
YEAR_S = 31_536_000.0
NUMBERS = {
    "timeout_s": (15.0, 0.1, 120.0),
    "connect_timeout_s": (10.0, 0.1, 120.0),
    "max_retry_after_s": (86400.0, 0.0, 604800.0),
    "max_age_s": (0.0, 0.0, YEAR_S),
    "message_ttl_s": (0.0, 0.0, YEAR_S),
    "disable_after_s": (432_000.0, 0.0, YEAR_S),
}
"""Members that are numbers: default, minimum, maximum."""
INTEGERS = {
    "concurrency": ("concurrency", 16, 1, 256),
    "max_retrying": ("max_retrying", 10_000, 1, 100_000),
    "attempts_kept": ("attempts_kept", 1000, 0, 10_000),
    "snippet_bytes": ("response_snippet_bytes", 1024, 0, 16384),
}
"""Fields that are integers: the member's name, default, minimum, maximum."""
MAX_KEYS = 100


class TemplateRefused(Exception):
    """A template cannot be parsed or rendered; `str` says why."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    requests: float
    per_s: float
    burst: float | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook as it is configured.

    exchange: the subscription's own queue is bound to it; queue: an existing queue to consume. Exactly one of them is set.

    order_by: "" (none), "queue", "routing_key", "message_id", "correlation_id" or "header:NAME".
    origin: sent with each request, once the endpoint has accepted it (handshake.py); "" sends none.
    headers: sent unchanged, including Authorization. dead_letter_on: statuses after which no other attempt is made.
    hidden: the secrets that an endpoint may send back and that no record shows, the longest first.
    """

    name: str
    target: Target
    url: str
    exchange: str | None
    routing_keys: tuple[str, ...]
    arguments: Mapping[str, Any]
    queue: str | None
    is_enabled: bool
    secrets: tuple[Secret, ...] = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    credentials: ClientCredentials | None
    certificate: ClientCertificate | None
    hidden: tuple[str, ...] = field(repr=False)
    method: str
    format: str
    content_type: str
    template: Template | None
    source: str
    origin: str
    forward_headers: bool
    timeout_s: float
    connect_timeout_s: float
    concurrency: int
    order_by: str
    max_retrying: int
    retry: RetrySchedule
    max_retry_after_s: float
    dead_letter_on: frozenset[int]
    max_age_s: float
    message_ttl_s: float
    rate_limit: RateLimit | None
    breaker: BreakerRules | None
    disable_after_s: float
    attempts_kept: int
    snippet_bytes: int

    @property
    def queue_name(self) -> str:
        return self.queue if self.queue is not None else f"webhook.{self.name}"

    @property
    def dead_queue_name(self) -> str:
        return f"webhook.{self.name}.dead"

    @classmethod
    def of(
        cls, name: str, value: Any, *, policy: AddressPolicy | None = None, https_only: bool = False
    ) -> Subscription:
        """Parse a parameter's stored value (masking.normalized). Raise InvalidArgument, which names the member."""
        if not NAME.fullmatch(name) or name.endswith(".dead"):  # webhook.NAME.dead is a queue of webhook NAME
            raise InvalidArgument(
                f"webhook name '{name}' must be 1 to 200 of A-Z a-z 0-9 . _ - and not end with .dead"
            )
        given = JsonObject(value, dialect=DIALECT, what="a webhook")
        numbers: dict[str, Any] = {
            **{field: given.number(field, *limits) for field, limits in NUMBERS.items()},
            **{field: given.integer(member, *limits) for field, (member, *limits) in INTEGERS.items()},
        }
        subscription = cls(
            name=name,
            **_source(name, given),
            **_endpoint(name, given, _TargetRules(policy, https_only)),
            **_content(given),
            **numbers,
            is_enabled=given.flag("enabled", True),
            forward_headers=given.flag("forward_headers", True),
            order_by=_order_by(given),
            retry=_retry(given.nested("retry")),
            dead_letter_on=_statuses(given.get("dead_letter_on", [])),
            rate_limit=_rate_limit(given),
            breaker=_breaker(given),
        )
        given.refuse_unknown()
        return subscription


@dataclass(frozen=True, slots=True)
class _TargetRules:
    """Which URLs a virtual host's webhooks may have."""

    policy: AddressPolicy | None
    https_only: bool

    def target(self, where: str, url: str) -> Target:
        return checked_target(where, url, self.policy, https_only=self.https_only)


def _source(name: str, given: JsonObject) -> dict[str, Any]:
    """Where messages come from: an exchange with bindings, or a queue."""
    exchange, queue = given.text("exchange", None), given.text("queue", None)
    if (exchange is None) == (queue is None):
        raise InvalidArgument(f"webhook '{name}' needs either 'exchange' or 'queue'")
    keys = given.list(
        "routing_keys", [given.text("routing_key", "")], check=lambda one: isinstance(one, str),
        minimum=1, maximum=MAX_KEYS, rule=f"must be a list of 1 to {MAX_KEYS} strings",
    )  # fmt: skip
    return {
        "exchange": exchange,
        "queue": queue,
        "routing_keys": tuple(dict.fromkeys(keys)),
        "arguments": given.mapping("arguments", {}),
    }


def _endpoint(name: str, given: JsonObject, rules: _TargetRules) -> dict[str, Any]:
    """Where requests go, and the headers, credentials and secrets that belong to it."""
    url = given.text("url", "")
    target = rules.target(f"webhook '{name}': url", url)
    auth = given.mapping("auth", {})
    added, credentials = authorization(auth, lambda text: rules.target("auth.token_url", text))
    given_headers = given.mapping("headers", {})
    headers = _headers(given_headers) + added
    if auth and any(header.lower() == "authorization" for header in given_headers):
        raise InvalidArgument("headers: Authorization cannot be set beside auth")
    certificate = client_certificate(given.mapping("client_certificate", {}))
    if certificate is not None and target.scheme != "https":
        raise InvalidArgument("client_certificate needs an https URL")
    secrets = _secrets(given.get("secrets", []))
    return {
        "url": url,
        "target": target,
        "headers": headers,
        "credentials": credentials,
        "certificate": certificate,
        "secrets": secrets,
        "hidden": hidden(headers, auth, [secret.text for secret in secrets]),
        "method": given.choice("method", ("POST", "PUT", "PATCH"), "POST"),
        "origin": _origin(given.text("origin", "")),
    }


def _content(given: JsonObject) -> dict[str, Any]:
    """The format of the requests."""
    source = given.text("template", None, max_chars=math.inf)
    form = given.choice("format", FORMATS, "template" if source else "raw")
    content_type = given.text("content_type", "")
    if content_type and not HEADER_VALUE.fullmatch(content_type):
        raise InvalidArgument("content_type must be visible ASCII")
    return {
        "format": form,
        "template": _template(source, form),
        "content_type": content_type,
        "source": given.text("source", ""),
    }


def _order_by(given: JsonObject) -> str:
    order_by = given.text("order_by", "")
    is_header = order_by.startswith("header:") and len(order_by) > len("header:")
    if order_by not in ORDERS and not is_header:
        raise InvalidArgument(
            "order_by must be queue, routing_key, message_id, correlation_id or header:NAME"
        )
    return order_by


def checked_target(where: str, url: str, policy: AddressPolicy | None, *, https_only: bool) -> Target:
    """Parse and check a URL. The addresses of a name are checked later, by each connection. Raise InvalidArgument."""
    try:
        target = Target.of(url)
    except ValueError as error:
        raise InvalidArgument(f"{where}: {error}") from None
    if https_only and target.scheme != "https":
        raise InvalidArgument(f"{where}: only https is allowed here")
    if policy is not None:
        try:
            policy.check(str(canonical(target.host)))
        except ValueError:
            pass
        except AddressRefused as error:
            raise InvalidArgument(f"{where}: {error}") from None
    return target


def _origin(text: str) -> str:
    if text and not is_host_name(text):
        raise InvalidArgument("origin must be a DNS name, such as events.example.com")
    return text


def _template(source: str | None, form: str) -> Template | None:
    if (source is not None) != (form == "template"):
        raise InvalidArgument("template and the format 'template' must be given together")
    if source is None:
        return None
    from leveret.plugins.webhooks.outgoing.template import Template  # which imports jinja2

    try:
        return Template(source)
    except TemplateRefused as error:
        raise InvalidArgument(f"template: {error}") from None


def _headers(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if len(given) > MAX_HEADERS:
        raise InvalidArgument(f"headers: at most {MAX_HEADERS}")
    for name, value in given.items():
        lower = name.lower()
        if not TOKEN.fullmatch(name):
            raise InvalidArgument(f"headers: {name!r} is not the name of a header")
        if lower in RESERVED_HEADERS or lower.startswith(("webhook-", "ce-")):
            raise InvalidArgument(f"headers: {name} cannot be set")
        if (
            not isinstance(value, str)
            or len(value) > MAX_HEADER_CHARS
            or (value and not HEADER_VALUE.fullmatch(value))
        ):
            raise InvalidArgument(
                f"headers.{name} must be visible ASCII, at most {MAX_HEADER_CHARS} characters"
            )
    if len({name.lower() for name in given}) != len(given):
        raise InvalidArgument("headers: a name is given twice")
    return tuple((name, value) for name, value in given.items())


def _secrets(given: Any) -> tuple[Secret, ...]:
    """Each secret is a string or {"secret", "expires_at"}. Without secrets, requests are not signed."""
    if not isinstance(given, list) or len(given) > MAX_SECRETS:
        raise InvalidArgument(f"secrets must be a list of at most {MAX_SECRETS}")
    found = []
    for index, one in enumerate(given):
        where = f"secrets[{index}]"
        fields = JsonObject(one if isinstance(one, Mapping) else {"secret": one}, where, DIALECT)
        text = fields.text("secret", "")
        expires_at = fields.number("expires_at", 0.0, 0.0, 1e12) or None
        fields.refuse_unknown()
        try:
            found.append(Secret.of(text, expires_at))
        except ValueError as error:
            raise InvalidArgument(f"{where}: {error}") from None
    return tuple(found)


def _is_delay(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 604800


def _retry(fields: JsonObject) -> RetrySchedule:
    delays = fields.list(
        "delays_s", None, check=_is_delay, maximum=MAX_DELAYS,
        rule=f"must be at most {MAX_DELAYS} numbers from 0 to 604800",
    )  # fmt: skip
    schedule = RetrySchedule(
        attempts=fields.integer("attempts", 12, 1, 1000),
        initial_s=fields.number("initial_s", 5.0, 0.01, 86400.0),
        factor=fields.number("factor", 3.0, 1.0, 100.0),
        max_s=fields.number("max_s", 36000.0, 0.01, 604800.0),
        jitter=fields.number("jitter", 0.2, 0.0, 1.0),
        delays_s=None if delays is None else tuple(map(float, delays)),
    )
    fields.refuse_unknown()
    return schedule


def _statuses(given: Any) -> frozenset[int]:
    if not isinstance(given, list) or not all(type(one) is int and 300 <= one <= 599 for one in given):
        raise InvalidArgument("dead_letter_on must be a list of statuses from 300 to 599")
    return frozenset(given)


def _rate_limit(given: JsonObject) -> RateLimit | None:
    if given.get("rate_limit", None) is None:
        return None
    fields = given.nested("rate_limit")
    limit = RateLimit(
        fields.number("requests", 1000.0, 0.001, 1e6),
        fields.number("per_s", 60.0, 0.001, 86400.0),
        fields.number("burst", 0.0, 0.0, 1e6) or None,
    )
    fields.refuse_unknown()
    return limit


def _breaker(given: JsonObject) -> BreakerRules | None:
    """The rules of the circuit breaker; None if it is switched off by false."""
    if given.get("circuit_breaker", {}) is False:
        return None
    fields = given.nested("circuit_breaker")
    rules = BreakerRules(
        fields.number("window_s", 300.0, 1.0, 86400.0),
        fields.number("sample_s", 30.0, 0.1, 3600.0),
        fields.integer("min_requests", 10, 1, 100_000),
        fields.number("failure_ratio", 0.7, 0.01, 1.0),
        fields.number("open_s", 30.0, 0.1, 3600.0),
    )
    fields.refuse_unknown()
    return rules
