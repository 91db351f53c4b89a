"""What requests that change something bring, and how they are answered: RabbitMQ's readings, and its words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.routes import Call, not_authorised, not_found
from leveret.auth.users import NoSuchUser
from leveret.core.administration.names import check_name
from leveret.core.administration.parameters import PolicyIsNoParameter
from leveret.core.definitions.json_fields import is_text, table_of
from leveret.core.errors import AccessRefused, InvalidArgument, NotAllowed, NotFound, ResourceLocked

if TYPE_CHECKING:
    from leveret.core.session import Session
    from leveret.core.vhost import Vhost
__all__ = [
    "Payload", "bad_request", "check_length", "created", "decode", "done", "payload", "perform", "refusals", "session_for", "terms",
    "validation_failed", "vhost_for",
]  # fmt: skip

log = logging.getLogger(__name__)

T = TypeVar("T")
LINE = 78  # RabbitMQ prints its terms in lines of this width
TRUTHS = {True: True, False: False, "true": True, "false": False}
NO_VALUE = object()


def bad_request(reason: str) -> Refusal:
    return Refusal(400, "bad_request", reason)


def terms(*parts: Any) -> Refusal:
    """400 whose reason is a list, as RabbitMQ shows Erlang's tuples: ["not_boolean", "perhaps"]."""
    refusal = bad_request(": ".join(map(str, parts)))
    refusal.extra["reason"] = list(parts)
    return refusal


def validation_failed(error: Exception) -> Refusal:
    """Of policies, parameters and limits."""
    return bad_request(f"Validation failed\n\n{error}\n")


@contextmanager
def refusals() -> Iterator[None]:
    """Answer what leveret.core.administration refuses as RabbitMQ does: 400 for a value, 404 for what does not exist."""
    try:
        yield
    except PolicyIsNoParameter as error:
        raise bad_request(str(error)) from None
    except InvalidArgument as error:
        raise validation_failed(error) from None
    except (NotFound, NoSuchUser):
        raise not_found() from None


def done() -> web.Response:
    return web.Response(status=204)


def created(is_new: bool) -> web.Response:
    return web.Response(status=201 if is_new else 204)


# -- bodies


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object; nothing is an empty one. Raise Refusal (400)."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError):
        raise bad_request("not_json") from None
    if isinstance(value, str):
        raise bad_request(
            "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?"
        )
    if not isinstance(value, dict):
        raise bad_request("not_json")
    if b"\\ud" in body.lower() and not _is_all_text(value):
        raise bad_request("not_json")
    return value


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return number


def _is_all_text(value: Any) -> bool:
    """No string in it has half a surrogate pair, which no name can be."""
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, dict):
        return all(is_text(key) and _is_all_text(item) for key, item in value.items())
    return not isinstance(value, list) or all(map(_is_all_text, value))


async def payload(call: Call, *required: str) -> Payload:
    """The request's body, which must have these members. Raise Refusal (400, 413, 408)."""
    values = decode(await call.context.body(call.request))
    missing = [f"{{key_missing,{key}}}" for key in required if key not in values]
    if missing:
        line = f"[{','.join(missing)}]"
        raise bad_request(line if len(line) <= LINE else line.replace("},{", "},\n {"))
    return Payload(values)


class Payload:
    """Members of a body, read as what they must be; every reader raises Refusal (400)."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def text(self, key: str, default: Any = NO_VALUE) -> str:
        value = self.values.get(key, default)
        if value is not default and not isinstance(value, str):
            raise terms("not_string", key)
        if value is NO_VALUE:
            raise bad_request(f"[{{key_missing,{key}}}]")
        return value  # type: ignore[no-any-return]  # the default, which is the caller's

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, (bool, str)) or value not in TRUTHS:
            raise terms("not_boolean", value)
        return TRUTHS[value]

    def number(self, key: str, default: int | None = None) -> int:
        """A string of digits is a number, too: old clients send it."""
        value = self.values.get(key, default)
        if isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise terms("not_integer", value)
        return value

    def table(self, key: str = "arguments") -> dict[str, Any]:
        try:
            return table_of(self.values.get(key), key)
        except InvalidArgument as error:
            raise bad_request(str(error)) from None

    def words(self, key: str) -> list[str] | None:
        """A list, or a string with commas. None: not there."""
        value = self.values.get(key)
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        if value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            return value
        raise bad_request(f"{key} must be a list of strings, or a string with commas")


def check_length(kind: str, name: str) -> str:
    """Return the name if it is not too long for AMQP. Raise InvalidArgument."""
    check_name(kind, name)
    return name


# -- virtual hosts and sessions


def vhost_not_found() -> Refusal:
    return Refusal(404, "not_found", "vhost_not_found")


async def vhost_for(call: Call, *, administrators_enter: bool = False) -> Vhost:
    """The one in the path. administrators_enter: any, without a permission there. Raise Refusal (404, 401)."""
    found = call.broker.vhosts.get(call.part("vhost"))
    if found is None:
        raise not_found() if call.request.method in ("DELETE", "GET") else vhost_not_found()
    if administrators_enter:
        if call.has("administrator") or await call.context.may_enter(call.principal, found.name):
            return found
        raise not_authorised("User not authorised to access object")
    return await call.vhost()


async def session_for(call: Call) -> Session:
    """The user in the virtual host of the path: permissions hold as they do for connections. Raise Refusal (404, 401)."""
    await vhost_for(call)
    return await call.context.session(call.request, call.part("vhost"))


async def perform(call: Call, session: Session, decision: Callable[[], T]) -> T:
    """Decide something in a session. Missing permissions are RabbitMQ's 401; which one it was is in the log."""
    try:
        return await call.context.decide(session, decision)
    except (AccessRefused, NotAllowed) as error:
        log.warning("user=%s vhost=%s refused: %s", session.principal.username, session.vhost.name, error)
        raise not_authorised("Access refused.") from error
    except ResourceLocked as error:
        raise bad_request(str(error)) from error
