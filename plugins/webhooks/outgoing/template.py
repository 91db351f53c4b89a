"""Templates that shape bodies: jinja2 in a sandbox without calls, with a budget of steps and bytes.

Templates come from users and are rendered in the broker's thread, so rendering must end soon. Loops count
against a budget of steps and of time; nothing can be called; results cannot be assigned to names, so that no value can double itself
repeatedly; all intermediate texts, numbers and lists are bounded; and so are the arguments of filters that could cause more work than
their input (round, the indent of tojson, the characters of trim).
"""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

from jinja2 import StrictUndefined, TemplateError, nodes, pass_context, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round, do_tojson
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from leveret.plugins.webhooks.outgoing.subscription import TemplateRefused

__all__ = ["Template"]

MAX_SOURCE = 16384
MAX_INPUT = 1 << 18  # bytes of the message's body, because parsing it takes time, too
MAX_OUTPUT = 1 << 20  # characters of the result and of every intermediate text
MAX_STEPS = 50_000  # iterations of all loops and applications of filters in one rendering
MAX_S = 0.1
MAX_NUMBER = 1 << 256
MAX_ELEMENTS = 10_000  # of a list that a filter processes as a whole
MAX_DIGITS = 15
MAX_INDENT = 8
MAX_TRIMMED = 64
ELEMENTWISE = frozenset(("dictsort", "items", "join", "list", "max", "min", "sort", "sum", "unique"))
TESTS = (
    "boolean", "defined", "eq", "equalto", "==", "false", "float", "ge", ">=", "gt", "greaterthan", ">", "in",
    "integer", "iterable", "le", "<=", "lower", "lt", "lessthan", "<", "mapping", "ne", "!=", "none", "number",
    "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
FILTERS = (
    "abs", "capitalize", "d", "default", "dictsort", "escape", "e", "first", "float", "int", "items", "last",
    "length", "count", "list", "lower", "max", "min", "sort", "string", "title", "truncate", "unique", "upper",
    "urlencode",
)  # fmt: skip
REFUSED: tuple[tuple[type[nodes.Node], str], ...] = (
    (nodes.Macro, "macros"), (nodes.CallBlock, "calls"), (nodes.Call, "calls"), (nodes.Include, "includes"),
    (nodes.Import, "imports"), (nodes.FromImport, "imports"), (nodes.Extends, "inheritance"),
    (nodes.Block, "inheritance"), (nodes.FilterBlock, "filter blocks"), (nodes.AssignBlock, "assignments"),
    (nodes.Assign, "assignments"), (nodes.With, "assignments"), (nodes.Pow, "powers"),
)  # fmt: skip
LITERALS = (nodes.List, nodes.Tuple, nodes.Dict)


class _Budget:
    """The budget of one rendering. Raise SecurityError when it is used up."""

    __slots__ = ("ends_at", "left")

    def __init__(self) -> None:
        self.left = MAX_STEPS
        self.ends_at = time.monotonic() + MAX_S

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise SecurityError(f"more than {MAX_STEPS} iterations of loops")
        if time.monotonic() > self.ends_at:
            raise SecurityError(f"rendering takes longer than {MAX_S:g} s")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "%", "+"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """a.b is a member of the data, even if a method of Python's dict has this name."""
        if isinstance(obj, Mapping):
            return self.getitem(obj, attribute)
        return super().getattr(obj, attribute)

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        is_numbers = _is_small(left) and _is_small(right)
        if not is_numbers and (operator != "+" or type(left) is not type(right)):
            raise SecurityError(f"{operator} is for numbers")
        if isinstance(left, (str, list, tuple)) and len(left) + len(right) > MAX_OUTPUT:
            raise SecurityError("the text is too long")
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise SecurityError("the number is too large")
        return value


def _is_small(value: Any) -> bool:
    """A number that cannot make arithmetic slow."""
    return isinstance(value, float) or (isinstance(value, int) and -MAX_NUMBER <= value <= MAX_NUMBER)


def _budget(context: Context) -> _Budget:
    budget: _Budget = context.parent["_budget"]
    return budget


@pass_context
def _bounded(context: Context, values: Any) -> Iterator[Any]:
    """Wraps the iterable of every loop, to count its iterations."""
    budget = _budget(context)
    for value in values:
        budget.step()
        yield value


def _join(values: Any, separator: str = "") -> str:
    pieces = [str(value) for value in values]
    if sum(map(len, pieces)) + len(separator) * len(pieces) > MAX_OUTPUT:
        raise SecurityError("the text is too long")
    return separator.join(pieces)


def _sum(values: Any) -> Any:
    numbers = list(values)
    if not all(isinstance(one, (int, float)) for one in numbers):
        raise SecurityError("sum is for numbers")
    return sum(numbers)


def _round(value: Any, precision: Any = 0, method: Any = "common") -> Any:
    if type(precision) is not int or abs(precision) > MAX_DIGITS or not _is_small(value):
        raise SecurityError(f"round is for numbers, to {MAX_DIGITS} digits")
    return do_round(value, precision, method)


@pass_eval_context
def _tojson(context: EvalContext, value: Any, indent: Any = None) -> Any:
    if indent is not None and (type(indent) is not int or not 0 <= indent <= MAX_INDENT):
        raise SecurityError(f"tojson indents by 0 to {MAX_INDENT}")
    return do_tojson(context, value, indent)


def _trim(value: Any, chars: Any = None) -> str:
    if chars is not None and (not isinstance(chars, str) or len(chars) > MAX_TRIMMED):
        raise SecurityError(f"trim takes at most {MAX_TRIMMED} characters")
    return str(value).strip(chars)


def _b64encode(value: Any) -> str:
    return base64.b64encode(_raw(value)).decode()


def _guarded(filter: Callable[..., Any], *, is_elementwise: bool = False) -> Callable[..., Any]:
    """A filter that counts against the budget and whose result is bounded."""
    kind = getattr(getattr(filter, "jinja_pass_arg", None), "name", None)

    @functools.wraps(filter)
    def guarded(context: Context, *arguments: Any, **named: Any) -> Any:
        _budget(context).step()
        if (
            is_elementwise
            and arguments
            and isinstance(arguments[0], Sized)
            and len(arguments[0]) > MAX_ELEMENTS
        ):
            raise SecurityError(f"more than {MAX_ELEMENTS} elements")
        first = {None: (), "environment": (context.environment,), "eval_context": (context.eval_ctx,)}.get(
            kind, (context,)
        )
        result = filter(*first, *arguments, **named)
        if isinstance(result, str) and len(result) > MAX_OUTPUT:
            raise SecurityError("the text is too long")
        if isinstance(result, int) and not _is_small(result):
            raise SecurityError("the number is too large")
        return result

    return pass_context(guarded)


def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.globals.clear()
    chosen: dict[str, Callable[..., Any]] = {name: environment.filters[name] for name in FILTERS}
    chosen |= {
        "join": _join, "sum": _sum, "b64encode": _b64encode, "round": _round, "tojson": _tojson, "trim": _trim,
    }  # fmt: skip
    environment.filters = {
        name: _guarded(one, is_elementwise=name in ELEMENTWISE) for name, one in chosen.items()
    }
    environment.tests = {name: environment.tests[name] for name in TESTS}
    environment.tests |= {"odd": lambda value: _is_small(value) and value % 2 == 1}
    environment.tests |= {"even": lambda value: _is_small(value) and value % 2 == 0}
    environment.filters |= {"_bounded": _bounded, "_concat": _guarded(_join)}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


_environment_of_all = _environment()


class _Concatenations(NodeTransformer):
    """Replaces a ~ b by a filter, which bounds the result."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        pieces = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(pieces, "_concat", [], [], None, None, lineno=node.lineno)


class Template:
    """A parsed template. Raise TemplateRefused for an invalid source. max_input: the most bytes of a message's body."""

    max_input = MAX_INPUT

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise TemplateRefused(f"longer than {MAX_SOURCE} characters")
        environment = _environment_of_all
        try:
            tree = environment.parse(source)
            for node in tree.find_all(tuple(kind for kind, _ in REFUSED)):
                what = next(what for kind, what in REFUSED if isinstance(node, kind))
                raise TemplateRefused(f"line {node.lineno}: {what} are not allowed")
            for literal in tree.find_all(LITERALS):
                if isinstance(literal, nodes.Tuple) and literal.ctx == "store":
                    continue  # for key, value in ...
                if any(True for _ in literal.find_all(nodes.Name)):
                    raise TemplateRefused(
                        f"line {literal.lineno}: lists of anything but constants are not allowed"
                    )
            for name in tree.find_all(nodes.Name):
                if name.name.startswith("_"):
                    raise TemplateRefused(f"line {name.lineno}: names must not begin with _")
            for one in tree.find_all(nodes.Filter):
                if one.name.startswith("_"):
                    raise TemplateRefused(f"line {one.lineno}: no filter named '{one.name}'")
            for loop in tree.find_all(nodes.For):
                if loop.recursive:
                    raise TemplateRefused(f"line {loop.lineno}: recursive loops are not allowed")
                loop.iter = nodes.Filter(loop.iter, "_bounded", [], [], None, None, lineno=loop.lineno)
            code = environment.compile(_Concatenations().visit(tree))
            self._template = environment.template_class.from_code(environment, code, {}, None)
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
            raise TemplateRefused(f"{error}") from None

    def render(self, values: Mapping[str, Any]) -> bytes:
        """UTF-8. values: `body` is the message's, as text. Raise TemplateRefused."""
        if len(values.get("body", "")) > MAX_INPUT:
            raise TemplateRefused(f"the message is longer than {MAX_INPUT} characters")
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate({**values, "_budget": _Budget()}):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise TemplateRefused(f"the result is longer than {MAX_OUTPUT} characters")
                pieces.append(piece)
            return "".join(pieces).encode("utf-8", "surrogateescape")
        except TemplateRefused:
            raise
        except Exception as error:  # noqa: BLE001 - filters and operators may raise anything for values of unexpected types
            raise TemplateRefused(f"{type(error).__name__}: {error}") from None
