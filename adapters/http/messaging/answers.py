"""The answer to nearly every request that publishes, written without a detour."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11

__all__ = ["Routed"]

TYPE = "application/json"
OWN_HEADERS = 2  # Content-Type, and Server from the middleware


class Routed(web.Response):
    """200 with a short JSON body.

    On a connection of HTTP/1.1 that is kept alive, and without further headers (CORS), all but the date is known before:
    it goes out in one piece, for a third of what aiohttp's way costs.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(body=body, content_type=TYPE)
        self._is_short_cut = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if (
            self._payload_writer is None
            and not self._eof_sent
            and len(self._headers) == OWN_HEADERS
            and self._keep_alive is None
            and request.version == HttpVersion11
            and request.keep_alive
            and request.method == "POST"
        ):
            self._is_short_cut = self._keep_alive = True
            self._req = request
            self._payload_writer = request._payload_writer
            return self._payload_writer
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        if not self._is_short_cut or self._eof_sent:
            await super().write_eof(data)
            return
        assert self._req is not None
        transport = self._req.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        self._eof_sent = True
        body = self._body
        assert isinstance(body, bytes)
        transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: Leveret\r\nContent-Length: %d\r\nDate: %s\r\n\r\n%s"
            % (len(body), rfc822_formatted_time().encode(), body)
        )
        self._req = self._payload_writer = None
