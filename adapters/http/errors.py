"""Answers that refuse: as RabbitMQ writes them below /api, as problem details (RFC 9457) elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from leveret.adapters.http.json_encoding import encode, json_response
from leveret.auth.users import AuthDataError, NoSuchUser, UserExists
from leveret.core.errors import (
    AccessRefused,
    AuthorizationPending,
    BrokerError,
    ConnectionRefused,
    DeliveryTagUnknown,
    InternalError,
    InvalidArgument,
    NotAllowed,
    NotFound,
    NotImplementedByBroker,
    PreconditionFailed,
    ResourceLocked,
    StoreUnavailable,
)

__all__ = ["ANSWERS", "Refusal", "is_management", "raw_refusal", "refusal_of", "refusal_response"]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """Raise it anywhere in a handler. error: a word for programs; reason: a sentence for people."""

    def __init__(
        self, status: int, error: str, reason: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(f"{status} {error}: {reason}")
        self.status = status
        self.error = error
        self.reason = reason
        self.headers = dict(headers or {})
        self.extra = extra
        """More members of the answer's object."""


# Of core's errors: below /api, as RabbitMQ's management plugin answers them; elsewhere.
ANSWERS: dict[type[Exception], tuple[int, int, str]] = {
    NotFound: (404, 404, "not_found"),
    AccessRefused: (401, 403, "not_authorised"),
    ResourceLocked: (400, 423, "resource_locked"),
    InvalidArgument: (400, 400, "bad_request"),
    DeliveryTagUnknown: (400, 409, "bad_request"),
    PreconditionFailed: (400, 409, "bad_request"),
    ConnectionRefused: (400, 503, "bad_request"),
    NotAllowed: (400, 403, "bad_request"),
    NotImplementedByBroker: (501, 501, "not_implemented"),
    InternalError: (500, 500, "internal_error"),
    StoreUnavailable: (503, 503, "store_unavailable"),
    NoSuchUser: (404, 404, "not_found"),
    UserExists: (400, 409, "bad_request"),
    AuthDataError: (400, 400, "bad_request"),
}
CODES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payload_too_large",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.BAD_REQUEST: "bad_request",
}


def is_management(request: web.BaseRequest) -> bool:
    return request.path.startswith("/api/") or request.path == "/api"


def refusal_of(error: Exception, request: web.BaseRequest) -> Refusal:
    """What to answer; an error of nobody's making is logged, and not shown."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, web.HTTPNotFound):
        if is_management(request):
            return Refusal(404, "Object Not Found", "Not Found")
        return Refusal(404, "not_found", "there is nothing at this path")
    if isinstance(error, web.HTTPException):
        status = error.status
        headers = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
        if isinstance(error, web.HTTPMethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.allowed_methods | {"OPTIONS"}))
        code = CODES.get(HTTPStatus(status), error.reason)
        reason = error.reason
        if isinstance(error, web.HTTPMethodNotAllowed) and not is_management(request):
            allowed = ", ".join(sorted(error.allowed_methods))
            reason = f"{request.method} is not allowed here; what is: {allowed}"
        return Refusal(status, code, reason, headers=headers)
    for kind in type(error).__mro__:
        answer = ANSWERS.get(kind)
        if answer is not None:
            below_api, elsewhere, code = answer
            return Refusal(below_api if is_management(request) else elsewhere, code, str(error))
    if isinstance(error, AuthorizationPending):
        return Refusal(503, "backend_unavailable", "an authorization backend must be asked; try again")
    if isinstance(error, BrokerError):
        return Refusal(400, "bad_request", str(error))
    log.error(
        "peer=%s method=%s path=%s failed", request.remote, request.method, request.path, exc_info=error
    )
    return Refusal(500, "internal_error", "Internal Server Error")


def refusal_response(refusal: Refusal, request: web.BaseRequest) -> web.Response:
    if is_management(request):
        body: dict[str, Any] = {"error": refusal.error, "reason": refusal.reason, **refusal.extra}
        response = json_response(body, refusal.status, refusal.headers)
    else:
        response = json_response(
            _problem(refusal), refusal.status, refusal.headers, content_type="application/problem+json"
        )
    if refusal.headers.get("Connection") == "close":
        response.force_close()
    return response


def _problem(refusal: Refusal) -> dict[str, Any]:
    """RFC 9457 3.1; `error` and whatever is in `extra` are members of ours."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.reason,
        "error": refusal.error,
        **refusal.extra,
    }


def raw_refusal(refusal: Refusal) -> bytes:
    """A whole answer, for a peer whose request is not there yet. The connection ends with it."""
    body = encode(_problem(refusal))
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\nServer: Leveret\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
