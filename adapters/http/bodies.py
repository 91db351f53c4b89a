"""Request bodies: bounded in size and time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from leveret.adapters.http.errors import Refusal

if TYPE_CHECKING:
    from leveret.adapters.http.settings import HttpSettings
__all__ = ["read_body", "read_json"]

CLOSE = {"Connection": "close"}


async def read_body(request: web.Request, settings: HttpSettings) -> bytes:
    """Raise Refusal: 413 if it is larger than `max_body_size`, 408 if it takes longer than `body_timeout_s`, 400 if it is
    broken off or framed wrongly, 501 for a transfer coding other than chunked."""
    limit = settings.max_body_size
    length = request.content_length
    if length is None:
        coding = request.headers.get("Transfer-Encoding", "chunked")
        if coding.strip().lower() != "chunked":
            raise Refusal(
                501, "not_implemented", "no transfer coding but chunked is understood", headers=CLOSE
            )
    elif length > limit:
        raise _too_large(limit)
    if not request.body_exists:
        return b""
    content = request.content
    if content.is_eof() and content.exception() is None:  # small ones come with their head: no timer for them
        body = content.read_nowait(-1)
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            if "Expect" in request.headers and not content.total_bytes and request.version >= HttpVersion11:
                writer = request.writer
                await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                writer.output_size = 0  # the answer has not begun
            while chunk := await content.readany():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(408, "timeout", "the body took too long to arrive", headers=CLOSE) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise Refusal(400, "bad_request", "the body is not framed as HTTP has it", headers=CLOSE) from None
    return b"".join(chunks)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        "payload_too_large",
        f"the body is larger than {limit} bytes",
        headers=CLOSE,
    )


async def read_json(request: web.Request, settings: HttpSettings) -> dict[str, Any]:
    """An object; {} for no body. Raise Refusal (400 not_json) with RabbitMQ's words."""
    body = await read_body(request, settings)
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "not_json", "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "not_json", "the body must be a JSON object")
    return value
