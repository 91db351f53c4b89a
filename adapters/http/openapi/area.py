"""/openapi.json: the description of all paths of this listener."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from aiohttp import web

from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.context import HttpContext
from leveret.adapters.http.json_encoding import encode
from leveret.adapters.http.openapi.builders import JSON, answer, operation

__all__ = ["OpenApiArea"]

HEADERS = {"Cache-Control": "max-age=3600"}


class OpenApiArea(Area):
    """The document is made when it is first asked for."""

    name: ClassVar[str] = "openapi"
    tags: ClassVar[Mapping[str, str]] = {"about": "What this server shows of itself"}

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._document: bytes | None = None

    def routes(self) -> Sequence[Route]:
        """At two paths: below /api for those who look for it there."""
        described = operation(ok={200: answer("OpenAPI 3.1.", {"type": "object"}, JSON)}, security=[])
        return [Route("GET", path, self.get, described) for path in ("/openapi.json", "/api/openapi.json")]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """This description."""
        if self._document is None:
            from leveret.adapters.http.openapi.document import document

            self._document = encode(document(self.context.areas))
        return web.Response(body=self._document, content_type=JSON, headers=HEADERS)
