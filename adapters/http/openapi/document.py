"""The description, put together: paths and summaries from the routes, bodies and answers from the tables beside this file."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from leveret import __version__
from leveret.adapters.http import health
from leveret.adapters.http.management.area import table
from leveret.adapters.http.management.routes import ACCESS
from leveret.adapters.http.openapi import management, messaging, others, webhooks
from leveret.adapters.http.openapi.pieces import JSON, PROBLEM, Json, answer, ref
from leveret.adapters.http.openapi.schemas import SCHEMAS

__all__ = ["described", "document", "operations"]

TABLES = (management.OPENAPI, messaging.OPENAPI, webhooks.OPENAPI, others.OPENAPI, health.OPENAPI)
"""Partial operations by "method /path"."""
TAGS = {
    "/api/": ("management", "RabbitMQ's management API"),
    "/v1/webhooks": ("webhooks out", "Subscriptions that send messages to URLs"),
    "/v1/webhook-sources": ("webhooks in", "Where webhooks may come in, and how they are verified"),
    "/hooks/": ("webhooks in", "Where webhooks may come in, and how they are verified"),
    "/v1/": ("messaging", "Publish, receive, subscribe and ask"),
    "/metrics": ("monitoring", "Prometheus text, and health"),
    "/health/": ("monitoring", "Prometheus text, and health"),
    "/": ("about", "What this server shows of itself"),
}
DESCRIPTION = """\
Names in paths are percent-encoded, each by itself: the virtual host `/` is `%2F`.

Errors below `/api` are `{"error", "reason"}`, as RabbitMQ's; everywhere else problem details (RFC 9457) with a word for
programs in `error`."""
STATUSES = {
    "400": "The request is invalid; the reason says where.",
    "401": "The login is missing or wrong. Below /api also: the user lacks the tag or the permission.",
    "403": "The user lacks the permission.",
    "404": "The object does not exist.",
    "405": "The path does not support this method.",
    "406": "Accept does not name the type of the answer.",
    "408": "The body took too long to arrive.",
    "409": "The request conflicts with the current state.",
    "413": "The body is too large.",
    "415": "The content type of the body is not supported.",
    "422": "The request is valid and cannot be carried out.",
    "423": "Another connection uses the queue exclusively.",
    "429": "A limit is reached; the request may be repeated later.",
    "501": "The server does not support this.",
    "503": "The server is short of memory, disk or time, or it is stopping.",
    "504": "No answer arrived in time.",
}
PARTS: dict[str, Json] = {
    "verb": {"enum": ["ack", "nack", "extend"]},
    "kind": {"enum": ["q", "e"], "description": "The destination: a queue, an exchange"},
    "unit": {"enum": ["days", "weeks", "months", "years"]},
    "within": {"type": "integer", "minimum": 0},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
}
"""Parts of paths that are no names."""
LIMITS: dict[str, Json] = {
    "/api/vhost-limits/{vhost}/{name}": {"enum": ["max-connections", "max-queues"]},
    "/api/user-limits/{user}/{name}": {"enum": ["max-connections", "max-channels"]},
}
EVERYWHERE = ("400", "404", "408", "413", "503")


def operations(app: web.Application) -> Iterator[tuple[str, str, Any]]:
    """(method, path as OpenAPI writes it, handler) of every route. HEAD is GET's, and not listed."""
    for route in app.router.routes():
        resource = route.resource
        if resource is None or route.method in ("HEAD", "*"):
            continue
        path = resource.canonical.replace(
            "{rest}", ""
        )  # what follows a webhook's name: anything, slashes too
        yield route.method.lower(), path, route.handler


def described() -> Iterator[str]:
    """ "method /path" of all that is described in the tables."""
    for one in TABLES:
        yield from one


def document(app: web.Application) -> Json:
    needs = {(row.method.lower(), f"/api{row.path}"): row.needs for row in table()}
    partial: Json = {}
    for one in TABLES:
        partial.update(one)
    paths: Json = {}
    for method, path, handler in operations(app):
        paths.setdefault(path, {})[method] = _operation(
            method, path, handler, needs.get((method, path)), partial.get(f"{method} {path}", {})
        )
    tags = {name: description for name, description in TAGS.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Leveret",
            "version": __version__,
            "summary": "The HTTP listener of a message broker",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                **{status: _refusal(text, "Problem", PROBLEM) for status, text in STATUSES.items()},
                **{
                    f"api-{status}": _refusal(text, "ManagementError", JSON)
                    for status, text in STATUSES.items()
                },
            },
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _refusal(text: str, schema: str, type: str) -> Json:
    return answer(text, ref(schema), type)


def _operation(method: str, path: str, handler: Any, needs: str | None, partial: Json) -> Json:
    is_management = path.startswith("/api/")
    found: Json = copy.deepcopy(partial)
    summary = (inspect.getdoc(handler) or "").partition("\n\n")[0].replace("\n", " ").strip()
    found.setdefault("summary", summary or f"{method.upper()} {path}")
    found["operationId"] = _operation_id(method, path)
    found["tags"] = [next(tag for prefix, (tag, _) in TAGS.items() if path.startswith(prefix))]
    if needs is not None:
        if needs:
            found["description"] = f"Needs one of the tags {', '.join(sorted(ACCESS[needs][0]))}."
        else:
            found["security"] = []
    parameters = [_path_parameter(path, name) for name in re.findall(r"\{(\w+)\}", path)]
    found["parameters"] = parameters + found.get("parameters", [])
    if not found["parameters"]:
        del found["parameters"]
    responses = found.setdefault("responses", {})
    if not any(status.startswith("2") for status in responses):
        responses.update(_usual(method))
    refusals = [*EVERYWHERE, *(["401"] if found.get("security") != [] else [])]
    if not is_management and found.get("security") != []:
        refusals.append("403")
    for status in refusals:
        responses.setdefault(status, {"$ref": f"#/components/responses/{status}"})
    if is_management:
        for one in responses.values():
            if one.get("$ref", "").startswith("#/components/responses/"):
                one["$ref"] = one["$ref"].replace("/responses/", "/responses/api-")
    found["responses"] = dict(sorted(responses.items()))
    return found


def _usual(method: str) -> Json:
    if method == "get":
        return {"200": answer("The object.", {}, JSON)}
    if method == "put":
        return {"201": answer("Created."), "204": answer("Done.")}
    return {"204": answer("Done.")}


def _path_parameter(path: str, name: str) -> Json:
    schema = PARTS.get(name) or {"type": "string", "minLength": 1}
    if name == "name":
        schema = LIMITS.get(path, schema)
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _operation_id(method: str, path: str) -> str:
    words = re.findall(r"\w+", path.replace("{", "by_").replace("-", "_"))
    return "_".join([method, *words])
