"""Idempotency-Key: a request that is repeated gets the answer of the first (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from leveret.adapters.http.context import IS_CONFIRMED
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.idempotency_store import Receipts, digest_of
from leveret.adapters.http.messaging.properties import bad
from leveret.adapters.http.messaging.publishing import confirm
from leveret.adapters.http.settings import HttpSettings

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["Idempotency", "Once"]

KEY = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?')
"""A string of structured fields, quoted or not: most clients forget the quotes."""
RECORDS = b"http/idempotency/"


class Once:
    """One request under its key. `keep` belongs into the decision that publishes."""

    def __init__(self, idempotency: Idempotency, key: bytes, fingerprint: bytes) -> None:
        self._idempotency = idempotency
        self.key = key
        self.fingerprint = fingerprint

    def keep(self, status: int, body: bytes, *, is_durable: bool) -> None:
        """The answer, for whoever repeats the request."""
        self._idempotency.receipts.put(
            self.key,
            fingerprint=self.fingerprint,
            status=status,
            body=body,
            lifetime_s=self._idempotency.window_s,
            is_durable=is_durable,
        )


class Idempotency:
    """Only success is kept: what failed has stored nothing, and may be tried again under the same key."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self.receipts = Receipts(
            context.broker, RECORDS, lambda: HttpSettings.of(context.broker.settings).idempotency_keys_max
        )
        self._running: set[bytes] = set()

    @property
    def window_s(self) -> float:
        return HttpSettings.of(self._context.broker.settings).idempotency_window_s

    async def run(
        self,
        request: web.Request,
        username: str,
        body: bytes,
        publish: Callable[[Once | None], Awaitable[web.Response]],
    ) -> web.Response:
        """Publish, or answer as before. Raise Refusal: 409 while the first is under way, 422 for another request."""
        given = request.headers.getall("Idempotency-Key", None)
        if given is None:
            return await publish(None)
        match = KEY.fullmatch(given[0])
        if match is None or len(given) > 1:
            raise bad("Idempotency-Key must be 1 to 255 visible characters, and one")
        request[IS_CONFIRMED] = True
        path = request.rel_url.raw_path
        key = digest_of(username, path, match[1])
        fingerprint = digest_of(request.raw_path, *_meaning(request), body)
        if key in self._running:
            raise Refusal(
                409,
                "idempotency_key_in_use",
                "a request with this Idempotency-Key is under way",
                headers={"Retry-After": "1"},
            )
        receipt = self.receipts.find(key)
        if receipt is None:
            self._running.add(key)
            try:
                return await publish(Once(self, key, fingerprint))
            finally:
                self._running.discard(key)
        if receipt.fingerprint != fingerprint:
            raise Refusal(422, "idempotency_key_reused", "this Idempotency-Key was used for another request")
        await confirm(self._context)  # the first may have gone away, or given up, before its commit
        return web.Response(
            status=receipt.status,
            body=receipt.body,
            content_type="application/json",
            headers={"Idempotency-Replayed": "true"},
        )


def _meaning(request: web.Request) -> list[str]:
    """The headers that a message is made of."""
    found = []
    for name, value in request.headers.items():
        key = name.lower()
        if key in ("content-type", "content-encoding") or key.startswith(("x-leveret-", "ce-")):
            found.append(f"{key}:{value}")
    return sorted(found)
