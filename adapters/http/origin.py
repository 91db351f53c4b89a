"""Which pages may change things: a browser sends the password that it remembers along with any page's requests."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web

from leveret.adapters.http.errors import Refusal

__all__ = ["check_origin"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SIGNED = "/hooks/"
"""Webhooks in: what a browser remembers is no signature, and whoever posts may well be a page."""
OWN_SITES = frozenset({"same-origin", "none"})
"""Of Sec-Fetch-Site, which no page can forge: our own page, or the user at the address bar."""


def check_origin(request: web.BaseRequest, allowed: Sequence[str]) -> None:
    """Raise Refusal (403) for a request that changes something and comes from another site's page.

    allowed: as in http.cors_origins. Programs send neither header, and are not asked. A proxy in front of us may say in
    X-Forwarded-Host under which name pages know it; pages cannot set that without being allowed to first.
    """
    if request.method in SAFE or request.path.startswith(SIGNED):
        return
    headers = request.headers
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    if site in OWN_SITES or (origin is None and site is None):
        return
    if origin is not None and (origin in allowed or "*" in allowed or _is_own(request, origin)):
        return
    raise Refusal(
        403,
        "cross_origin_request",
        f"pages of {origin or 'other sites'} may not change anything here; http.cors_origins says which may",
    )


def _is_own(request: web.BaseRequest, origin: str) -> bool:
    try:
        host = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    names = (request.headers.get("Host", ""), request.headers.get("X-Forwarded-Host", "").partition(",")[0])
    return bool(host) and host in {name.strip().lower() for name in names}
