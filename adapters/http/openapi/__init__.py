"""/openapi.json: the whole HTTP listener, described from its routes (OpenAPI 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext
__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    from aiohttp import web

    from leveret.adapters.http.json_encoding import encode

    made: list[bytes] = []

    async def openapi(request: web.Request) -> web.StreamResponse:
        """This description."""
        if not made:  # it is long, and rarely asked for
            from leveret.adapters.http.openapi.document import document

            made.append(encode(document(request.app)))
        headers = {"Cache-Control": "max-age=3600"}
        return web.Response(body=made[0], content_type="application/json", headers=headers)

    return [web.get("/openapi.json", openapi), web.get("/api/openapi.json", openapi)]
