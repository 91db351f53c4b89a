"""Renders, signs, authorizes and sends the requests of a subscription, and removes secrets from the answers that are logged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from leveret.plugins.webhooks.outgoing.client import Connection, Reply
from leveret.plugins.webhooks.outgoing.masking import without
from leveret.plugins.webhooks.outgoing.oauth import TokenSource
from leveret.plugins.webhooks.outgoing.rendering import Headers, render, signed

if TYPE_CHECKING:
    from leveret.core.message import Envelope
    from leveret.plugins.webhooks.outgoing.connector import Connector
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["Sender"]

THREAD_BYTES = 1 << 20  # larger bodies are signed in a thread, because this would block the broker


class Sender:
    """Sends the requests of one version of a subscription. Raise ValueError for a client certificate that cannot be used."""

    def __init__(self, subscription: Subscription, connector: Connector) -> None:
        self._subscription = subscription
        certificate, credentials = subscription.certificate, subscription.credentials
        self._connector = (
            connector if certificate is None else connector.with_certificate(certificate.load_into)
        )
        self._tokens = None if credentials is None else TokenSource(connector, credentials)

    def connection(self) -> Connection:
        """A connection to the endpoint, which is opened by its first request."""
        subscription = self._subscription
        return Connection(
            self._connector, subscription.target, connect_timeout_s=subscription.connect_timeout_s
        )

    async def prepare(
        self, envelope: Envelope, body: bytes, webhook_id: str, attempt: int
    ) -> tuple[Headers, bytes]:
        """The headers and the body of an attempt, signed with the current time. Raise TemplateRefused."""
        rendering = render(self._subscription, envelope, body, webhook_id)
        arguments = (self._subscription, rendering, webhook_id, attempt, time.time())
        if len(rendering.body) < THREAD_BYTES:
            return signed(*arguments), rendering.body
        return await trio.to_thread.run_sync(signed, *arguments), rendering.body

    async def ask(self, connection: Connection, headers: Headers) -> Reply:
        """Send an OPTIONS request with these headers, and those and the credentials of the subscription. Raise RequestFailed."""
        return await self._request(connection, "OPTIONS", [*self._subscription.headers, *headers], b"")

    async def send(self, connection: Connection, headers: Headers, body: bytes) -> Reply:
        """Send an attempt that was prepared. Raise RequestFailed."""
        return await self._request(connection, self._subscription.method, headers, body)

    async def _request(self, connection: Connection, method: str, headers: Headers, body: bytes) -> Reply:
        subscription, tokens = self._subscription, self._tokens
        if tokens is not None:
            token = await tokens.get()
            headers = [*headers, ("Authorization", f"Bearer {token}")]
        reply = await connection.request(
            method, headers, body, timeout_s=subscription.timeout_s, snippet_bytes=self._snippet_bytes()
        )  # fmt: skip
        if tokens is not None and reply.status == 401:
            tokens.expire(token)
        return reply

    def _hidden(self) -> tuple[str, ...]:
        hidden = self._subscription.hidden
        return hidden if self._tokens is None or not self._tokens.token else (self._tokens.token, *hidden)

    def _snippet_bytes(self) -> int:
        """How much of a body to read: more than is kept, so that a secret at the end is recognised as a whole."""
        wanted = self._subscription.snippet_bytes
        return wanted and wanted + max(map(len, self._hidden()), default=0)

    def shown(self, text: str) -> str:
        """A text from the endpoint, without the secrets that it may have sent back."""
        return without(self._hidden(), text) if text else ""

    def snippet(self, reply: Reply | None) -> str:
        """The beginning of an answer's body for the log, without secrets."""
        if reply is None or not reply.snippet:
            return ""
        return self.shown(reply.snippet.decode("utf-8", "replace"))[: self._subscription.snippet_bytes]
