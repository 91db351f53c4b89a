"""STOMP frames as values: escapes per version, header lines to mappings, frames to bytes. Sans-IO.

Header texts keep bytes that are not UTF-8 (surrogateescape), both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from leveret.adapters.stomp.faults import StompFault

__all__ = ["EOL", "VERSIONS", "Frame", "encode_frame", "escape", "header_line", "unescape"]

VERSIONS = ("1.0", "1.1", "1.2")
EOL = b"\0\n"  # RabbitMQ puts a line feed behind every frame, and there are clients that read up to it

_UNESCAPED = {"1.1": {"n": "\n", "c": ":", "\\": "\\"}, "1.2": {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}}
_ESCAPED = {
    "1.1": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c"}),
    "1.2": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"}),
}
_escape = re.compile(r"\\(.?)", re.DOTALL).sub
_special = re.compile(r"[\\\n\r:\0]").search
_SPACES = str.maketrans({"\n": " ", "\r": " "})
_PLAIN_NUL = str.maketrans({"\0": None})


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from a client. Of repeated headers the first one is here (STOMP 1.2, Repeated Header Entries)."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def unescape(text: str, version: str) -> str:
    """What a header's name or value means. Raise StompFault for an escape that the version does not know."""
    known = _UNESCAPED.get(version)
    if known is None or "\\" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        try:
            return known[found[1]]
        except KeyError:
            raise StompFault(
                "Bad escape", f"Undefined escape sequence '{found[0]}' in a header of STOMP {version}\n"
            ) from None

    return _escape(replace, text)


def escape(text: str, version: str) -> str:
    """A header's name or value as the version can say it. No version has words for NUL: it is left out."""
    if not _special(text):
        return text
    if "\0" in text:
        text = text.translate(_PLAIN_NUL)
    table = _ESCAPED.get(version)
    if table is not None:
        return text.translate(table)
    # 1.0 has no escapes: a line end would end the header, and begin one of the sender's choice.
    return text.translate(_SPACES) if "\n" in text or "\r" in text else text


def header_line(name: str, value: str, version: str) -> bytes:
    """One header with its line end. b"" for a name that 1.0 cannot say."""
    if version == "1.0" and ":" in name:
        return b""
    return f"{escape(name, version)}:{escape(value, version)}\n".encode("utf-8", "surrogateescape")


def encode_frame(command: str, headers: Iterable[tuple[str, str]], body: bytes, version: str) -> bytes:
    """A whole frame; content-length is added where there is a body. CONNECTED is never escaped (STOMP 1.2)."""
    escapes = version if command != "CONNECTED" else "1.0"
    lines = [f"{command}\n".encode(), *(header_line(name, value, escapes) for name, value in headers)]
    if body:
        lines.append(b"content-length:%d\n" % len(body))
    return b"".join((*lines, b"\n", body, EOL))
