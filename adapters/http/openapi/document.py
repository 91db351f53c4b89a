"""The document: paths, summaries and operations from the routes of all areas, and what every operation may answer."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable

from leveret import __version__
from leveret.adapters.http.areas import Area, Route, openapi_path
from leveret.adapters.http.openapi.builders import JSON, PROBLEM, Json, answer, ref
from leveret.adapters.http.openapi.schemas import SCHEMAS

__all__ = ["document"]

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


def document(areas: Iterable[Area]) -> Json:
    """The OpenAPI 3.1 document of all routes of these areas."""
    paths: Json = {}
    tags: dict[str, str] = {}
    schemas: Json = dict(SCHEMAS)
    for area in areas:
        tags |= area.tags
        schemas |= area.schemas()
        for route in area.routes():
            path = openapi_path(route.path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(
                route, path, route.tag or next(iter(area.tags))
            )
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
            "schemas": schemas,
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


def _operation(route: Route, path: str, tag: str) -> Json:
    is_management = path.startswith("/api/")
    method = route.method.lower()
    found: Json = copy.deepcopy(route.operation)
    summary = (inspect.getdoc(route.handler) or "").partition("\n\n")[0].replace("\n", " ").strip()
    found.setdefault("summary", summary or f"{route.method} {path}")
    found["operationId"] = _operation_id(method, path)
    found["tags"] = [tag]
    given = found.pop("parameters", [])
    described = {one["name"] for one in given if one["in"] == "path"}
    in_path = [name for name in re.findall(r"\{(\w+)\}", path) if name not in described]
    parameters = [_path_parameter(path, name) for name in in_path] + given
    if parameters:
        found["parameters"] = parameters
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
