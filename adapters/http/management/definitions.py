"""Definitions: all of them, or a virtual host's, as a file that goes into this broker or into RabbitMQ."""

from __future__ import annotations

import asyncio
import re
from email.message import Message
from typing import Any

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import encode_exactly
from leveret.adapters.http.management.payloads import bad_request, decode, done
from leveret.adapters.http.management.routes import NO_CACHE, Call, Route
from leveret.core.administration.definitions import export_definitions, import_definitions
from leveret.core.garbage_collection import paused_collector

__all__ = ["ROUTES"]

JSON, FORM = "application/json", "multipart/form-data"
FIELD = re.compile(rb'\bname="?(\w+)"?(?:[;\s]|$)', re.IGNORECASE)
FILE, REDIRECT = "file", "redirect"
"""The form fields of the management page's upload: the document, and where the page wants to be then."""


def _vhost(call: Call) -> str | None:
    """Of the path. Raise Refusal (404, or 400 as RabbitMQ answers GET)."""
    name = call.request.match_info.get("vhost")
    if name is None or name in call.broker.vhosts:
        return name
    if call.request.method == "GET":
        raise bad_request("vhost_not_found")
    raise Refusal(404, "not_found", "vhost_not_found")


async def get_definitions(call: Call) -> web.Response:
    """All definitions, or those of one virtual host; `download=NAME` makes it a file."""
    vhost = _vhost(call)
    headers = dict(NO_CACHE)
    if name := call.query("download"):
        name = re.sub(r"[^\w .@()+-]", "_", name, flags=re.ASCII)
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    with paused_collector():
        body = encode_exactly(export_definitions(call.broker, vhost))
    return web.Response(body=body, headers=headers, content_type=JSON)


async def post_definitions(call: Call) -> web.Response:
    """Import definitions: JSON, or a form with a `file`. Nothing is deleted; a file with a mistake changes nothing."""
    vhost = _vhost(call)
    document, redirect = await _document(call)
    # Once begun it is done: a client that goes away must not leave half of it.
    task = asyncio.ensure_future(_import(call, document, vhost))
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.shield(task)
    if redirect is None:
        return done()
    return web.Response(status=303, headers={"Location": redirect})


async def _import(call: Call, document: Any, vhost: str | None) -> None:
    """Slice by slice, so that others have their turns; all at once when the server is about to stop."""

    async def pause() -> None:
        if not call.context.is_stopping:
            await asyncio.sleep(0)

    await import_definitions(call.broker, document, pause, vhost=vhost, user=call.principal.username)


async def _document(call: Call) -> tuple[Any, str | None]:
    """It, and where to send the browser then."""
    request = call.request
    if request.content_type not in (JSON, FORM):  # what a page of another origin could send unasked, too
        raise Refusal(415, "unsupported_media_type", f"definitions are sent as {JSON} or {FORM}")
    body = await call.context.body(request)
    redirect = None
    if request.content_type == FORM:
        fields = _fields(request, body)
        if FILE not in fields:
            raise bad_request("failed_to_parse_json")
        body = fields[FILE]
        redirect = fields.get(REDIRECT, b"").decode("ascii", "replace") or None
        if redirect is not None and not re.fullmatch(r"(?![/\\]{2})[\w./#?=&%-]+", redirect, re.ASCII):
            raise bad_request("redirect must be a path of this server")
    try:
        with paused_collector():
            return decode(body), redirect
    except Refusal as refusal:
        if refusal.reason == "not_json":
            raise bad_request("failed_to_parse_json") from None
        raise


def _fields(request: web.Request, body: bytes) -> dict[str, bytes]:
    """The parts of a form by their names (RFC 7578). Raise Refusal (400)."""
    header: Message = Message()
    header["Content-Type"] = request.headers["Content-Type"]
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary.isascii():
        raise bad_request("failed_to_parse_json")
    fields: dict[str, bytes] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        head, blank, data = part.partition(b"\r\n\r\n")
        field = FIELD.search(head)
        if blank and field is not None:
            fields.setdefault(field[1].decode().lower(), data)
    return fields


ROUTES = tuple(
    Route(method, path, handler, needs="administrator", takes_auth=True)
    for path in ("/definitions", "/definitions/{vhost}", "/all-configuration")
    for method, handler in (("GET", get_definitions), ("POST", post_definitions))
)
