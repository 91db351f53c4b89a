"""Templates over a request, such as "github.{header:X-GitHub-Event}.{body:/action|none}".

Unlike the templates of webhooks out (jinja2) they have references only and execute nothing, which suffices for keys and headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["RequestValues", "Template"]

PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
KINDS = ("header", "query", "body", "path")
MISSING = object()


class RequestValues:
    """The values that templates may refer to. The body is parsed on first use. Names in `headers` are lower case."""

    def __init__(
        self,
        *,
        vhost: str,
        name: str,
        path: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        body: bytes,
        content_type: str,
    ) -> None:
        self._fixed = {"vhost": vhost, "name": name, "path": path}
        self._segments = path.split("/") if path else []
        self._headers = headers
        self._query = query
        self._body = body
        self._content_type = content_type
        self._parsed: Any = MISSING

    def find(self, kind: str, argument: str) -> Any:
        """The value; MISSING if the request does not have it."""
        if kind == "header":
            return self._headers.get(argument.lower(), MISSING)
        if kind == "query":
            return self._query.get(argument, MISSING)
        if kind == "body":
            return self._pointed(argument)
        if kind == "path" and argument:
            index = int(argument)
            return self._segments[index] if index < len(self._segments) else MISSING
        return self._fixed[kind]

    @property
    def parsed(self) -> Any:
        if self._parsed is MISSING:
            self._parsed = _parse(self._body, self._content_type)
        return self._parsed

    def _pointed(self, pointer: str) -> Any:
        """The value that a JSON pointer (RFC 6901) refers to."""
        value = self.parsed
        for token in pointer.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict):
                value = value.get(token, MISSING)
            elif isinstance(value, list) and token.isascii() and token.isdigit() and len(token) < 10:
                value = value[int(token)] if int(token) < len(value) else MISSING
            else:
                return MISSING
        return MISSING if value is None else value


def _parse(body: bytes, content_type: str) -> Any:
    """The JSON value, or the fields of a form (or the JSON in its `payload`, as GitHub sends it); MISSING for any other body."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        try:
            fields: dict[str, Any] = dict(
                parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
            )
        except ValueError:
            return MISSING
        return fields if "payload" not in fields else _json(fields["payload"])
    return _json(body)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return MISSING


class Template:
    """Text with references. Raise ValueError for invalid syntax."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._pieces: list[str | tuple[str, str, str | None]] = []
        at = 0
        for match in PIECE.finditer(source):
            self._pieces.append(source[at : match.start()])
            at = match.end()
            if match[0] in ("{{", "}}"):
                self._pieces.append(match[0][0])
            elif match[1] is None:
                raise ValueError(f"a single {match[0]} in {source!r} must be doubled")
            else:
                self._pieces.append(_reference(match[1]))
        self._pieces.append(source[at:])
        self._pieces = [piece for piece in self._pieces if piece != ""]

    def __repr__(self) -> str:
        return f"<Template {self.source!r}>"

    def value(self, values: RequestValues) -> Any:
        """The value itself if the template is a single reference (None: missing), otherwise the text."""
        if len(self._pieces) == 1 and not isinstance(piece := self._pieces[0], str):
            return _look_up(values, piece)
        return self.text(values)

    def text(self, values: RequestValues) -> str:
        """The text, in which missing values are empty."""
        pieces = []
        for piece in self._pieces:
            value = piece if isinstance(piece, str) else _look_up(values, piece)
            pieces.append("" if value is None else value if isinstance(value, str) else _dump(value))
        return "".join(pieces)


_dump: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _look_up(values: RequestValues, reference: tuple[str, str, str | None]) -> Any:
    kind, argument, default = reference
    found = values.find(kind, argument)
    return default if found is MISSING else found


def _reference(text: str) -> tuple[str, str, str | None]:
    text, bar, default = text.partition("|")
    kind, _, argument = text.partition(":")
    if kind in ("name", "vhost") and not argument:
        pass
    elif kind not in KINDS:
        raise ValueError(
            f"there is no {{{text}}}; references are header:NAME, query:NAME, body:/POINTER, path, path:N, name, vhost"
        )
    elif kind == "body":
        if argument and not argument.startswith("/"):
            raise ValueError(f"{{{text}}} must have a JSON pointer, which begins with /")
    elif kind == "path":
        if argument and not (argument.isascii() and argument.isdigit() and len(argument) < 4):
            raise ValueError(f"{{{text}}} must have the number of a segment of the path, from 0")
    elif not argument:
        raise ValueError(f"{{{text}}} needs a name: {{{kind}:NAME}}")
    return kind, argument, default if bar else None
