"""Lists: `sort`, `page`, `name` and `columns`, and items made of parts so that only what is asked for is worked out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import encode
from leveret.adapters.http.management.columns import columns_of, cut
from leveret.adapters.http.management.details import Ranges
from leveret.adapters.http.management.routes import NO_CACHE, Call
from leveret.auth.patterns import InvalidPattern, Pattern, PatternTooSlow

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["Part", "PublishView", "Table", "answer_list", "check_stats", "plain_table"]

T = TypeVar("T")
PAGE_SIZE, MAX_PAGE_SIZE = 100, 500
SLICE = 64  # items between two turns of the others


class PublishView:
    """What the parts of an item may look at beside the thing itself. One per request."""

    def __init__(self, call: Call, range_error: str = "bad_request") -> None:
        self.call = call
        self.broker: Broker = call.broker
        self.rates = call.context.rates
        self.ranges = Ranges.of(call, range_error)
        self.is_terse = call.flag("disable_stats")
        self.has_totals = call.flag("enable_queue_totals")
        self._peers: dict[str, tuple[str, int]] | None = None

    def peer_of(self, connection_name: str) -> tuple[str, int]:
        """Host and port of the client of a connection; ("", 0) if it is gone."""
        if self._peers is None:
            self._peers = {connection.name: connection.peer for connection in self.broker.connections}
        return self._peers.get(connection_name, ("", 0))


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Some members of an item, and what puts them there. names: all that it may put."""

    names: frozenset[str]
    put: Callable[[dict[str, Any], T, PublishView], None]


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """name_of: what `name` filters by. is_paged: `page` is heeded; RabbitMQ does so for few lists, and clients know which."""

    parts: Sequence[Part[T]]
    name_of: Callable[[T], str]
    is_paged: bool = False

    def item(self, thing: T, view: PublishView, wanted: frozenset[str] | None = None) -> dict[str, Any]:
        """wanted: top-level names; other parts are left out. None: all."""
        item: dict[str, Any] = {}
        for part in self.parts:
            if wanted is None or not wanted.isdisjoint(part.names):
                part.put(item, thing, view)
        return item


def plain_table(name: str = "name") -> Table[dict[str, Any]]:
    """For things that are items already."""
    return Table((), lambda item: str(item.get(name, "")))


def check_stats(call: Call) -> None:
    """Of lists that are nothing but statistics. Raise Refusal (400) if the client wants none."""
    if call.flag("disable_stats"):
        raise Refusal(400, "bad_request", "Stats in management UI are disabled on this node")


# -- order


def _path(item: Any, names: Sequence[str]) -> Any:
    for name in names:
        item = item.get(name) if isinstance(item, Mapping) else None
    return item


def _rank(value: Any) -> tuple[int, Any]:
    """Any two can be compared: nothing, numbers, texts, the rest."""
    if value is None:
        return 0, 0
    if isinstance(value, (bool, int, float)):
        return 1, value
    if isinstance(value, str):
        return 2, value
    return 3, encode(value)


# -- pages


@dataclass(frozen=True, slots=True)
class Page:
    number: int
    size: int
    name: str
    is_regex: bool

    @classmethod
    def of(cls, call: Call) -> Page | None:
        """None: all in one array. Raise Refusal (400) in RabbitMQ's words."""
        query = call.request.query
        if "page" not in query:
            return None
        number_text, size_text = query["page"], query.get("page_size")
        try:
            number, size = int(number_text), PAGE_SIZE if size_text is None else int(size_text)
        except ValueError:
            raise Refusal(400, "bad_request", "Pagination parameters are invalid") from None
        if number < 1 or not 1 <= size <= MAX_PAGE_SIZE:
            raise Refusal(
                400,
                "invalid_pagination_parameters",
                f"Invalid pagination parameters: page number {number}, page size {size_text or 'undefined'}",
            )
        return cls(number, size, query.get("name", ""), query.get("use_regex") == "true")

    def matching(self, things: list[T], name_of: Callable[[T], str]) -> list[T]:
        """By a part of the name, or a regular expression; case does not count. Raise Refusal (400)."""
        if not self.name:
            return things
        if not self.is_regex:
            part = self.name.lower()
            return [thing for thing in things if part in name_of(thing).lower()]
        try:
            pattern = Pattern(self.name, is_caseless=True)
            return [thing for thing in things if pattern.search(name_of(thing))]
        except (InvalidPattern, PatternTooSlow):
            raise Refusal(400, "bad_request", "Pagination parameters are invalid") from None


# -- the answer


async def answer_list(call: Call, things: Iterable[T], table: Table[T]) -> web.Response:
    """An array; of lists that are paged, with `page` an object with a page of it. Others have their turn while it is made."""
    view = PublishView(call, "invalid_range_parameters" if table.is_paged else "bad_request")
    tree, page = columns_of(call.query("columns")), Page.of(call) if table.is_paged else None
    listed = list(things)
    total = len(listed)
    if page is not None:
        listed = page.matching(listed, table.name_of)
    filtered = len(listed)
    make = table.item if table.parts else _as_it_is
    if sort := call.query("sort"):
        names = sort.split(".")
        top = frozenset(names[:1])
        ranked: list[tuple[tuple[int, Any], T]] = []
        for number, thing in enumerate(listed):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            ranked.append((_rank(_path(make(thing, view, top), names)), thing))
        ranked.sort(key=lambda pair: pair[0])
        listed = [thing for _, thing in ranked]
    if call.flag("sort_reverse"):
        listed.reverse()
    if page is not None:
        start = (page.number - 1) * page.size
        if start >= filtered and page.number > 1:
            raise Refusal(
                400,
                "page_out_of_range",
                f"Page out of range, page: {page.number} page size: {page.size}, len: {filtered}",
            )
        listed = listed[start : start + page.size]
    wanted = None if tree is None else frozenset(tree)
    chunks: list[bytes] = []
    for number, thing in enumerate(listed):
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        item = make(thing, view, wanted)
        chunks.append(encode(item if tree is None else cut(item, tree)))
    body = b"[" + b",".join(chunks) + b"]"
    if page is not None:
        head = {
            "total_count": total,
            "item_count": len(chunks),
            "filtered_count": filtered,
            "page": page.number,
            "page_size": page.size,
            "page_count": -(-filtered // page.size),
        }
        body = encode(head)[:-1] + b',"items":' + body + b"}"
    return web.Response(body=body, content_type="application/json", headers=NO_CACHE)


def _as_it_is(thing: Any, view: PublishView, wanted: frozenset[str] | None = None) -> Any:
    return thing
