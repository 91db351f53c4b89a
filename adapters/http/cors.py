"""Which browsers' pages from elsewhere may call the API."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

__all__ = ["add_cors"]

MAX_AGE_S = 1800
EXPOSED = "Location, Retry-After, Link"


def add_cors(request: web.Request, response: web.StreamResponse, origins: Sequence[str]) -> None:
    """origins: as in http.cors_origins; "*" is any. Without one of them there is no header, and browsers refuse."""
    origin = request.headers.get("Origin")
    if origin is None or not origins or (origin not in origins and "*" not in origins):
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Allow-Credentials"] = "true"
    headers["Vary"] = "Origin"
    if request.method == "OPTIONS":
        headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "GET, HEAD, OPTIONS")
        headers["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", "Authorization"
        )
    else:
        headers["Access-Control-Expose-Headers"] = EXPOSED
