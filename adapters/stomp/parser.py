"""The STOMP wire, sans-IO: chunks of bytes in, calls of the handler out.

SEND and ACK, the hot frames, are parsed here in one loop over one `bytes`: no object, no exception and no await per
frame. SENDs whose heads (all before the body) mean the same are one call, however many follow each other; so is a run
of ACKs. Every other frame goes to the handler as a `Frame`.

The law: whatever bytes a peer sends, they are parsed or they raise StompFault, and nothing else.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Any, Protocol

from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.frames import Frame, unescape

__all__ = ["FrameHandler", "FrameParser", "Limits", "SendHead"]

REMEMBERED_HEADS = 512  # per connection; then all are forgotten: who has more different ones repeats none
REMEMBERED_BYTES = 2048  # longer heads are parsed each time
COMMAND_BYTES = 32  # RabbitMQ's limit, too; the line end not counted
NEAR_BYTES = 1024  # where the end of a head usually is
SMALL_BODY = 1024  # below, runs are taken apart by a struct; above, copying costs more than looking
LF, CR = 10, 13

_blank_line = re.compile(rb"\n\r?\n").search
# ACKs as 1.2 clients send them, possibly with a subscription that says nothing new.
_acks = re.compile(
    rb"(?:ACK\n(?:subscription:[^\n\r\0\\]*+\n)?+id:[0-9]{1,18}+\n(?:subscription:[^\n\r\0\\]*+\n)?+\n\0\n?+)++"
).match
_ack_ids = re.compile(rb"\nid:([0-9]+)\n").findall
_runs: dict[tuple[int, int, int], Struct] = {}  # (head, body, end) sizes of runs seen; bounded


class SendHead:
    """What SENDs with the same headers share. content-length, receipt and transaction are not part of it.

    size: about how many bytes it has. target: for whoever publishes, to remember what the headers lead to.
    """

    __slots__ = ("headers", "size", "target")

    def __init__(self, headers: dict[str, str], size: int) -> None:
        self.headers = headers
        self.size = size
        self.target: Any = None


NO_HEAD = SendHead({}, 0)  # of no frame


class FrameHandler(Protocol):
    """What the parser calls. Each may raise StompFault or, before it has changed anything, AuthorizationPending."""

    def on_first(self, command: str) -> None:
        """A frame other than CONNECT before the connection is open: raise, or suspend the parser; it comes again."""

    def on_sends(self, head: SendHead, bodies: list[bytes]) -> None:
        """Messages sent alike, without receipt or transaction."""

    def on_send(self, head: SendHead, body: bytes, receipt: str | None, transaction: str | None) -> None:
        """One that asks for a receipt, or belongs to a transaction."""

    def on_acks(self, tags: list[int]) -> None:
        """ACK with these ids (1.2), without receipt or transaction."""

    def on_frame(self, frame: Frame) -> None:
        """Any other frame; also ACKs that look different."""


class Limits:
    """What a frame may be.

    size          bytes of its body, and of the command and headers together
    headers       how many it may have
    header_bytes  of one header line
    """

    __slots__ = ("header_bytes", "headers", "size")

    def __init__(self, size: int, headers: int, header_bytes: int) -> None:
        self.size, self.headers, self.header_bytes = size, headers, header_bytes


# A parsed head: what is shared of a SEND (None: another command), its content-length (None: up to the NUL), and for
# what is not remembered the command and headers.
Head = tuple["SendHead | None", "int | None", str, dict[str, str]]


class FrameParser:
    """One connection's incoming half.

    is_suspended  the handler needs an await before the next frame; `feed(b"")` goes on from there
    is_open       CONNECT was accepted; `version` is known, and decides on escapes and line ends
    is_bulk       a large frame was cut in two by the end of a chunk
    is_deaf       after a fault: what follows means nothing
    """

    __slots__ = (
        "_heads",
        "_kept",
        "_kept_size",
        "_missing",
        "_room",
        "_shared",
        "_wanted",
        "handler",
        "ignores_input",
        "is_bulk",
        "is_open",
        "is_suspended",
        "limits",
        "version",
    )

    def __init__(self, handler: FrameHandler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.version = "1.0"
        self.is_open = False
        self.is_suspended = False
        self.is_bulk = False
        self.ignores_input = False
        self._heads: dict[bytes, Head] = {}
        self._shared: dict[tuple[tuple[str, str], ...], SendHead] = {}
        # What is not parsed yet, in pieces, and what it waits for: so many more bytes, or one of a kind.
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._missing = 0
        self._wanted = b""
        self._room = 0  # how many bytes the line or body that it waits for may still have

    @property
    def kept_bytes(self) -> int:
        """Of frames that are not complete."""
        return self._kept_size

    def feed(self, data: bytes) -> None:
        if self.ignores_input:
            return
        self.is_bulk = False
        if self._kept:
            if data:
                self._kept.append(data)
                self._kept_size += len(data)
            if self.is_suspended:
                return
            if self._missing:
                self._missing = max(0, self._missing - len(data))
                if self._missing:
                    return
            elif self._wanted and self._wanted not in data:
                self._room -= len(data)
                if self._wanted == b"\0":
                    if self._room < 0:
                        raise self._body_too_large()
                    return
                self._check_head(self._kept_size)
                if self._room >= 0 and b"\0" not in data:
                    return
            data = b"".join(self._kept) if len(self._kept) > 1 else self._kept[0]
            self._kept.clear()
            self._kept_size = 0
            self._wanted = b""
        self._parse(data)

    def forget(self) -> None:
        """What headers mean has changed: the version is known."""
        self._heads.clear()
        self._shared.clear()

    def _check_head(self, size: int) -> None:
        if size > self.limits.size:
            raise StompFault(
                "Frame too large", f"The headers of a frame may have at most {self.limits.size} bytes\n"
            )

    def _body_too_large(self, said: str = "", receipt: str | None = None) -> StompFault:
        return StompFault(
            "Frame too large",
            f"The body of a frame may have at most {self.limits.size} bytes{said}\n",
            receipt,
        )

    def _parse(self, data: bytes) -> None:
        """Handle the frames of a chunk, and keep what is not complete.

        SENDs with equal heads collect in `bodies`, and are handed over before anything else is. `done` moves behind them
        then: if a handler raises AuthorizationPending, all that was not handed over is kept and parsed again.
        """
        handler, heads = self.handler, self._heads
        end, pos = len(data), 0
        find = data.find
        done = 0  # all before this is dealt with: the rest is offered again after a pause
        head = NO_HEAD  # of SENDs that are collected
        bodies: list[bytes] = []
        try:
            while pos < end and not self.is_suspended:
                first = data[pos]
                if first == LF or not first:  # a heart-beat, the line end of the last frame, a NUL too many
                    pos += 1
                    continue
                if first == CR and (pos + 1 == end or data[pos + 1] == LF):
                    if pos + 1 == end:
                        break
                    pos += 2
                    continue
                if first == 65 and self.is_open and self.version == "1.2":  # A
                    found = _acks(data, pos)
                    if found is not None:
                        if bodies:
                            handler.on_sends(head, bodies)
                            done, bodies = pos, []
                        tags = [int(tag) for tag in _ack_ids(data, pos, found.end())]
                        handler.on_acks(tags)
                        done = pos = found.end()
                        continue
                body_at = find(b"\n\n", pos, pos + NEAR_BYTES) + 2
                key = data[pos:body_at] if body_at > 1 else b""
                known = heads.get(key)
                if known is None:
                    if bodies:
                        handler.on_sends(head, bodies)
                        done, bodies = pos, []
                        if self.is_suspended:
                            break
                    found = _blank_line(data, pos)
                    if found is None:
                        self._wait_for_head(data, pos)
                        break
                    body_at = found.end()
                    key = data[pos:body_at]
                    known = heads.get(key) or self._head(key, found.start() - pos)
                    if self.is_suspended:
                        break
                shared, length, command, headers = known
                if length is None:
                    stop = find(b"\0", body_at)
                    if stop < 0:
                        self._wait_for_nul(end - body_at)
                        break
                    if stop - body_at > self.limits.size:
                        raise self._body_too_large()
                else:
                    stop = body_at + length
                    if stop >= end:
                        self._missing = stop + 1 - end
                        self.is_bulk = length >= 65536
                        break
                    if data[stop]:
                        raise self._no_nul(length, headers.get("receipt"))
                if bodies and (shared is not head or headers):
                    handler.on_sends(head, bodies)
                    done, bodies = pos, []
                if shared is None:
                    handler.on_frame(Frame(command, headers, data[body_at:stop]))
                    done = pos = stop + 1
                elif headers:  # it asks for a receipt, or belongs to a transaction
                    body = data[body_at:stop]
                    handler.on_send(shared, body, headers.get("receipt"), headers.get("transaction"))
                    done = pos = stop + 1
                else:
                    head = shared
                    bodies.append(data[body_at:stop])
                    pos = stop + 1
                    if length is not None and pos < end:
                        pos = self._run(data, pos, end, key, length, bodies)
            if bodies:
                handler.on_sends(head, bodies)
            done = pos
        except StompFault:
            self.ignores_input = True
            done = end
            raise
        finally:
            if done < end and not self.ignores_input:
                self._kept.append(data[done:] if done else data)
                self._kept_size = end - done

    def _wait_for_nul(self, size: int) -> None:
        """`size` bytes of a body without content-length are here, but not its end."""
        self._wanted = b"\0"
        self._room = self.limits.size - size
        if self._room < 0:
            raise self._body_too_large()

    @staticmethod
    def _run(data: bytes, pos: int, end: int, key: bytes, length: int, bodies: list[bytes]) -> int:
        """Collect the bodies of following SENDs that have the very same head; where they end."""
        tail = b"\0"
        if data[pos] == LF:  # a client that puts a line feed behind its frames
            tail = b"\0\n"
            pos += 1
        stride = len(key) + length + len(tail)
        if end - pos < stride or not data.startswith(key, pos):
            return pos
        if length > SMALL_BODY:  # no longer a matter of parsing, but of copying: only what is taken
            while data.startswith(key, pos) and data[pos + stride - len(tail) : pos + stride] == tail:
                bodies.append(data[pos + len(key) : pos + len(key) + length])
                pos += stride
            return pos
        shape = (len(key), length, len(tail))
        run = _runs.get(shape)
        if run is None:
            if len(_runs) >= 1024:
                _runs.clear()
            run = _runs[shape] = Struct(f"{shape[0]}s{length}s{shape[2]}s")
        before = len(bodies)
        whole = (end - pos) // stride * stride
        for head, body, last in run.iter_unpack(memoryview(data)[pos : pos + whole]):
            if head != key or last != tail:
                break
            bodies.append(body)
        return pos + (len(bodies) - before) * stride

    # -- heads, once per different one

    def _wait_for_head(self, data: bytes, pos: int) -> None:
        """Its end is not here: is it still worth waiting for?"""
        self._wanted = b"\n"
        size = len(data) - pos
        line_end = data.find(b"\n", pos)
        if (line_end if line_end >= 0 else len(data)) - pos > COMMAND_BYTES + 1:
            raise self._no_command(data[pos : pos + COMMAND_BYTES])
        if data.find(b"\0", pos) >= 0:
            raise StompFault("Malformed frame", "A NUL comes before the blank line that ends the headers\n")
        if data.count(b"\n", pos) > self.limits.headers + 1:
            raise self._too_many_headers()
        longest = COMMAND_BYTES + 1 if line_end < 0 else self.limits.header_bytes
        self._room = longest - (len(data) - max(pos, data.rfind(b"\n", pos) + 1))
        if self._room < 0:
            raise self._header_too_long()
        self._check_head(size)

    def _head(self, key: bytes, size: int) -> Head:
        """Parse a head: the command's line, headers, and the blank line; size: bytes up to the blank line's LF."""
        line_end = key.index(b"\n")
        start = key[:line_end].removesuffix(b"\r")
        if len(start) > COMMAND_BYTES or not start.isalpha():
            raise self._no_command(start)
        command = start.decode("ascii", "replace")
        if b"\0" in key:
            raise StompFault("Malformed frame", "A NUL comes before the blank line that ends the headers\n")
        if not self.is_open and command not in ("CONNECT", "STOMP"):
            self.handler.on_first(command)
            if self.is_suspended:
                return None, None, command, {}
        limits = self.limits
        if key.count(b"\n", 0, size) > limits.headers:
            raise self._too_many_headers()
        headers: dict[str, str] = {}
        # CONNECT comes before a version is known, and is never escaped (STOMP 1.2, Value Encoding).
        version = self.version if self.is_open and command not in ("CONNECT", "STOMP") else ""
        if version == "1.0" or b"\\" in key or b"\r" in key or len(key) > limits.header_bytes:
            for line in key[:size].split(b"\n")[1:]:
                if len(line) > limits.header_bytes:
                    raise self._header_too_long()
                self._header(line, version, headers)
        else:  # most heads: nothing in them needs a look
            for text in key[:size].decode("utf-8", "surrogateescape").split("\n")[1:]:
                name, colon, value = text.partition(":")
                if not colon:
                    raise self._no_colon(name)
                headers.setdefault(name, value)
        if len(key) > limits.size:
            self._check_head(len(key))
        if command != "SEND":
            # RabbitMQ honours content-length on SEND alone, and there are clients whose ACKs carry a wrong one.
            return None, None, command, headers
        length = self._content_length(headers)
        asked: dict[str, str] = {}
        for name in ("receipt", "transaction"):
            if name in headers:
                asked[name] = headers.pop(name)
        shared = self._share(headers, len(key))
        head: Head = shared, length, command, asked
        if not asked and len(key) <= REMEMBERED_BYTES:
            if len(self._heads) >= REMEMBERED_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _header(self, line: bytes, version: str, headers: dict[str, str]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        raw_name, colon, raw_value = line.partition(b":")
        if not colon:
            raise self._no_colon(raw_name.decode("utf-8", "surrogateescape"))
        if b"\r" in line and version == "1.2":
            raise StompFault("Malformed frame", "A carriage return within a header; 1.2 writes it as \\r\n")
        name, value = (
            raw_name.decode("utf-8", "surrogateescape"),
            raw_value.decode("utf-8", "surrogateescape"),
        )
        if version == "1.0":
            name, value = name.strip(" "), value.strip(" ")
        elif b"\\" in line:
            name, value = unescape(name, version), unescape(value, version)
        headers.setdefault(name, value)

    def _content_length(self, headers: dict[str, str]) -> int | None:
        text = headers.pop("content-length", None)
        if text is None:
            return None
        digits = text.strip(" ")
        if not (digits.isascii() and digits.isdigit()):
            raise StompFault(
                "Malformed frame", f"content-length is no number: '{text}'\n", headers.get("receipt")
            )
        if len(digits) > 12 or int(digits) > self.limits.size:
            raise self._body_too_large(f"; content-length says {digits[:40]}", headers.get("receipt"))
        return int(digits)

    def _share(self, headers: dict[str, str], size: int) -> SendHead:
        """The same object for heads that say the same, whatever else they had: content-length, receipt, transaction."""
        key = tuple(headers.items())
        shared = self._shared.get(key)
        if shared is None:
            shared = SendHead(headers, size)
            if size <= REMEMBERED_BYTES:
                if len(self._shared) >= REMEMBERED_HEADS:
                    self._shared.clear()
                    self._heads.clear()
                self._shared[key] = shared
        return shared

    # -- what is wrong with it

    @staticmethod
    def _no_command(start: bytes) -> StompFault:
        hint = " (a TLS client on the plain port?)" if start[:2] == b"\x16\x03" else ""
        shown = ascii(start[:COMMAND_BYTES].decode("utf-8", "replace"))
        return StompFault("Malformed frame", f"No frame begins with {shown}{hint}\n")

    @staticmethod
    def _no_nul(length: int, receipt: str | None) -> StompFault:
        text = f"The body of {length} bytes (content-length) is not followed by a NUL\n"
        return StompFault("Malformed frame", text, receipt)

    @staticmethod
    def _no_colon(name: str) -> StompFault:
        return StompFault("Malformed frame", f"A header without a colon: '{name}'\n")

    def _too_many_headers(self) -> StompFault:
        return StompFault("Too many headers", f"Frames may have at most {self.limits.headers} headers\n")

    def _header_too_long(self) -> StompFault:
        return StompFault(
            "Header too long", f"A header line may have at most {self.limits.header_bytes} bytes\n"
        )
