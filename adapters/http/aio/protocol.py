"""aiohttp's side of a connection, with our answers to what is no HTTP, and with our terms for `Expect`."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from leveret.adapters.http.errors import Refusal, refusal_response

__all__ = ["MAX_FIELD_BYTES", "MAX_LINE_BYTES", "Protocol", "expect", "make_protocol"]

log = logging.getLogger(__name__)

MAX_LINE_BYTES, MAX_FIELD_BYTES = 32768, 16384
"""Of a request's target, and of one header. The parser says by its limit alone which of them was passed: they differ."""


class Protocol(RequestHandler):
    """Answers with problem details (RFC 9457) where aiohttp has plain text with its own name and the peer's bytes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        messages = self._messages
        last = messages[-1][0] if messages else None
        if not isinstance(last, _ErrInfo):
            return
        request = self._current_request
        if request is not None and not request.content.is_eof():
            # The error is in its body: whoever reads that is told, and answers; there is no further request.
            messages.pop()
            if request.content.exception() is None:
                request.content.set_exception(last.exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        refusal = _refusal_of(status, exc)
        if status >= 500 and refusal.status == status:
            log.error("peer=%s status=%d a request failed", request.remote, status, exc_info=exc)
        else:
            log.info("peer=%s status=%d not HTTP: %s", request.remote, refusal.status, refusal.reason)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun: there cannot be another")
        response = refusal_response(refusal, request)
        response.headers["Server"] = "Leveret"
        response.force_close()
        return response


def make_protocol(server: web.Server) -> RequestHandler:
    """As `server()`, of our kind."""
    return Protocol(server, loop=server._loop, **server._kwargs)


def _refusal_of(status: int, error: BaseException | None) -> Refusal:
    """Never with what the peer has sent: that may be a password, and this goes to the log, too."""
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_LINE_BYTES:
            return Refusal(414, "uri_too_long", f"the target is longer than {MAX_LINE_BYTES} bytes")
        return _too_large(f"a header is larger than {MAX_FIELD_BYTES} bytes")
    if isinstance(error, HttpProcessingError):
        message = error.message
        if message.startswith("Too many headers"):
            return _too_large("there are too many headers")
        if "Invalid HTTP version" in message:
            return Refusal(505, "version_not_supported", "the version is neither HTTP/1.1 nor HTTP/1.0")
        words = message.partition("\n")[0].partition(": b'")[0].rstrip(":. ")
        return Refusal(400, "bad_request", f"this is no HTTP request: {words}")
    if status == 504:
        return Refusal(504, "timeout", "the request took too long")
    return Refusal(500, "internal_error", "Internal Server Error")


def _too_large(reason: str) -> Refusal:
    return Refusal(431, "header_fields_too_large", reason)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """For routes: 100 Continue is not sent before somebody wants the body (bodies.py), so that who is refused need not
    send it; RFC 9110 10.1.1."""
    if request.headers["Expect"].lower() == "100-continue":
        return None
    refusal = Refusal(417, "expectation_failed", "100-continue is the only expectation that is understood")
    response = refusal_response(refusal, request)
    response.headers["Server"] = "Leveret"
    response.force_close()
    return response
