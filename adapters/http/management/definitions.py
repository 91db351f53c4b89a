"""Definitions: all of them, or a virtual host's, as a file that goes into this broker or into RabbitMQ."""

from __future__ import annotations

import re
from email.message import Message
from typing import Any

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.jsons import json_response
from leveret.adapters.http.management.payloads import bad_request, decode, done
from leveret.adapters.http.management.routes import NO_CACHE, Call, Route
from leveret.core.interchange import export, import_

__all__ = ["ROUTES"]

JSON, FORM = "application/json", "multipart/form-data"
FIELD = re.compile(rb'\bname="?file"?(?:[;\s]|$)', re.IGNORECASE)
"""The form field of the management page's upload."""


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
    return json_response(export(call.broker, vhost), headers=headers)


async def post_definitions(call: Call) -> web.Response:
    """Import definitions: JSON, or a form with a `file`. What is there already stays; a mistake changes nothing."""
    vhost = _vhost(call)
    import_(call.broker, await _document(call), vhost, user=call.principal.username)
    return done()


async def _document(call: Call) -> Any:
    request = call.request
    if request.content_type not in (JSON, FORM):  # what a page of another origin could send unasked, too
        raise Refusal(415, "unsupported_media_type", f"definitions are sent as {JSON} or {FORM}")
    body = await call.context.body(request)
    if request.content_type == FORM:
        body = _file(request, body)
    try:
        return decode(body)
    except Refusal as refusal:
        if refusal.reason == "not_json":
            raise bad_request("failed_to_parse_json") from None
        raise


def _file(request: web.Request, body: bytes) -> bytes:
    """The part of a form that is called `file` (RFC 7578); nothing if there is none."""
    header: Message = Message()
    header["Content-Type"] = request.headers["Content-Type"]
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary.isascii():
        raise bad_request("failed_to_parse_json")
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        head, blank, data = part.partition(b"\r\n\r\n")
        if blank and FIELD.search(head):
            return data
    raise bad_request("failed_to_parse_json")


ROUTES = (
    Route("GET", "/definitions", get_definitions, needs="administrator"),
    Route("GET", "/definitions/{vhost}", get_definitions, needs="administrator"),
    Route("POST", "/definitions", post_definitions, needs="administrator"),
    Route("POST", "/definitions/{vhost}", post_definitions, needs="administrator"),
    Route("GET", "/all-configuration", get_definitions, needs="administrator"),
    Route("POST", "/all-configuration", post_definitions, needs="administrator"),
)
