"""Short ways to say what an operation takes and gives. A partial operation is a dict as OpenAPI has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "BINARY", "JSON", "PROBLEM", "TEXT", "Json", "answer", "boolean", "content", "integer", "list_of", "number", "obj",
    "operation", "query", "ref", "string",
]  # fmt: skip

Json = dict[str, Any]
JSON, PROBLEM, TEXT = "application/json", "application/problem+json", "text/plain"
BINARY: Json = {}
"""A body of any bytes: no schema."""


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def string(**more: Any) -> Json:
    return {"type": "string", **more}


def integer(minimum: int | None = None, maximum: int | None = None, **more: Any) -> Json:
    limits = {"minimum": minimum, "maximum": maximum}
    return {"type": "integer", **{name: value for name, value in limits.items() if value is not None}, **more}


def number(minimum: float, maximum: float, **more: Any) -> Json:
    return {"type": "number", "minimum": minimum, "maximum": maximum, **more}


def boolean(**more: Any) -> Json:
    return {"type": "boolean", **more}


def list_of(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def obj(required: str = "", /, **properties: Json) -> Json:
    """required: names, with spaces between. Further members are allowed."""
    schema: Json = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required.split()
    return schema


def content(schema: Json, *types: str) -> Json:
    return {type: {"schema": schema} if schema else {} for type in types or (JSON,)}


def answer(description: str, schema: Json | None = None, *types: str) -> Json:
    """schema None: no body."""
    found: Json = {"description": description}
    if schema is not None:
        found["content"] = content(schema, *types)
    return found


def query(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    found = {"name": name, "in": "query", "schema": schema, "description": description}
    return {**found, "required": True} if required else found


def operation(
    *,
    ok: Mapping[int, Json] | None = None,
    body: Json | None = None,
    types: tuple[str, ...] = (JSON,),
    optional_body: bool = False,
    parameters: tuple[Json, ...] = (),
    also: str = "",
    **more: Any,
) -> Json:
    """ok: answers by status; body: its schema; also: further statuses that refuse."""
    found: Json = dict(more)
    if ok is not None:
        found["responses"] = {str(status): one for status, one in ok.items()}
    for status in also.split():
        found.setdefault("responses", {})[status] = {"$ref": f"#/components/responses/{status}"}
    if body is not None:
        found["requestBody"] = {"required": not optional_body, "content": content(body, *types)}
    if parameters:
        found["parameters"] = list(parameters)
    return found
