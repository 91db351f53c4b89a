"""The page docs/http-api.md, written from the description at /openapi.json."""

from __future__ import annotations

from collections.abc import Iterator

from leveret.adapters.http.openapi.builders import Json

__all__ = ["as_markdown"]

HEAD = """# HTTP API

<!-- Written by `python docs/generate.py`. -->

Every path of the HTTP listener, with its parameters, its body and its answers. The broker serves the same description as
OpenAPI 3.1 at `/openapi.json`, without a login; tools generate clients from it. Names in italics are the description's schemas;
a member with a question mark is optional.

"""
COMMON = ("400", "401", "403", "404", "405", "408", "413", "503")
"""Statuses that are explained once, at the top of the page."""


def as_markdown(document: Json) -> str:
    """The page of a description, as `document` returns it: one section per tag, one heading per operation."""
    return "".join(_lines(document))


def _lines(document: Json) -> Iterator[str]:
    yield f"{HEAD}{document['info']['description']}\n"
    yield "\nEvery operation may be refused with one of these; further statuses stand with the operation.\n"
    yield "\n| status | meaning |\n|---|---|\n"
    for status in COMMON:
        yield f"| {status} | {_text(document['components']['responses'][status]['description'])} |\n"
    by_tag: dict[str, list[tuple[str, str, Json]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag[operation["tags"][0]].append((method.upper(), path, operation))
    for tag in document["tags"]:
        yield f"\n## {tag['name'].capitalize()}\n\n{tag['description']}.\n"
        for method, path, operation in by_tag[tag["name"]]:
            yield from _operation(method, path, operation, document)


def _operation(method: str, path: str, operation: Json, document: Json) -> Iterator[str]:
    yield f"\n### `{method} {path}`\n\n{_text(operation['summary'])}"
    yield f" {_text(operation['description'])}\n" if "description" in operation else "\n"
    if operation.get("security") == []:
        yield "\nNeeds no login.\n"
    parameters = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if parameters:
        yield "\n| parameter | in | type | meaning |\n|---|---|---|---|\n"
        for one in parameters:
            name = f"`{one['name']}`{' (required)' if one.get('required') else ''}"
            yield f"| {name} | {one['in']} | {_type(one.get('schema', {}))} | {_text(one.get('description', ''))} |\n"
    if "requestBody" in operation:
        yield f"\nBody{'' if operation['requestBody'].get('required') else ' (optional)'}: "
        yield f"{_content(operation['requestBody']['content'])}.\n"
    yield "\n| status | answer |\n|---|---|\n"
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            if status in COMMON:
                continue
            answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        body = f" {_content(answer['content'])}" if status.startswith("2") and "content" in answer else ""
        yield f"| {status} | {_text(answer['description'])}{body} |\n"


def _content(content: Json) -> str:
    kinds: dict[str, list[str]] = {}
    for media_type, one in content.items():
        kinds.setdefault(_type(one.get("schema", {})), []).append(f"`{media_type}`")
    return "; ".join(f"{', '.join(types)}{': ' + kind if kind else ''}" for kind, types in kinds.items())


def _type(schema: Json) -> str:
    """A schema in a few words: what a cell of a table has room for."""
    if "$ref" in schema:
        return f"*{schema['$ref'].rpartition('/')[2]}*"
    if "enum" in schema:
        return " or ".join(f"`{_text(str(one))}`" for one in schema["enum"])
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return " or ".join(filter(None, dict.fromkeys(map(_type, schema[word]))))
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {})) or 'any values'}"
    if kind == "object" and schema.get("properties"):
        required = schema.get("required", ())
        names = [f"`{name}`{'' if name in required else '?'}" for name in schema["properties"]]
        return f"object with {', '.join(names)}"
    bounds = [
        f"{words} {schema[key]}"
        for key, words in (("minimum", "at least"), ("maximum", "at most"))
        if key in schema
    ]
    return f"{kind} {', '.join(bounds)}".strip()


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
