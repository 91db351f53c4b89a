"""The grammar of selectors, and what each construct becomes: a closure over a message's properties (JMS 1.1, 3.8.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedToken

from leveret.adapters.stomp.selector_values import ORDERS, arithmetic, equal, like, number, ordered, truth
from leveret.core.errors import InvalidArgument
from leveret.core.properties import Properties

__all__ = ["Condition", "Reader", "SelectorError", "parse"]

MAX_DEPTH = 64  # parentheses, NOT and signs within each other: each is a call deep while messages are tested
MAX_DIGITS = 64  # of a literal

Evaluate = Callable[[Properties], Any]
Condition = Callable[[Properties], bool | None]  # None: unknown, in SQL's three-valued logic
Reader = Callable[
    [str], Evaluate
]  # from an identifier to what reads it; raises SelectorError for one that cannot be

KEYWORDS = ("AND", "OR", "NOT", "BETWEEN", "IN", "LIKE", "ESCAPE", "IS", "NULL", "TRUE", "FALSE")

# NAME becomes a keyword in the lexer's callback. Signs are operators, never part of a number: `a -1` is a difference.
GRAMMAR = r"""
?start: disjunction -> whole_selector
?disjunction: conjunction (OR conjunction)*
?conjunction: negation (AND negation)*
?negation: NOT negation -> negate
    | predicate
?predicate: sum
    | sum "=" sum -> equals
    | sum "<>" sum -> differs
    | sum ORDER sum -> compare
    | sum BETWEEN sum AND sum -> between
    | sum NOT BETWEEN sum AND sum -> outside
    | sum IN "(" literal ("," literal)* ")" -> among
    | sum NOT IN "(" literal ("," literal)* ")" -> not_among
    | sum LIKE TEXT (ESCAPE TEXT)? -> matches
    | sum NOT LIKE TEXT (ESCAPE TEXT)? -> not_matches
    | sum IS NULL -> absent
    | sum IS NOT NULL -> present
?sum: product ((PLUS | MINUS) product)*
?product: sign ((STAR | SLASH | PERCENT) sign)*
?sign: (PLUS | MINUS) sign -> signed
    | atom
?atom: literal
    | NAME -> named
    | QUOTED -> quoted
    | "(" disjunction ")" -> group
?literal: TEXT -> text
    | REAL -> real
    | WHOLE -> whole
    | TRUE -> true
    | FALSE -> false
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
PERCENT: "%"
ORDER: /<=|>=|<(?!>)|>/
TEXT: /'(?:[^']|'')*'/
QUOTED: /"(?:[^"]|"")+"/
REAL: /(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?|[0-9]+(?:[eE][+-]?[0-9]+[fFdD]?|[fFdD])/
WHOLE: /0[xX][0-9a-fA-F]+[lL]?|[0-9]+[lL]?/
NAME: /(?:[^\W\d]|\$)[\w$HYPHEN]*/
%ignore /[ \t\r\n\f]+/
"""


class SelectorError(InvalidArgument):
    """It is no selector; the text says where and why, for the client."""


@dataclass(frozen=True, slots=True)
class Node:
    """kind: "condition", "name" (any type, until a message says which), "number", or "text" and "truth" (literals)."""

    evaluate: Evaluate
    kind: str
    depth: int = 0
    value: Any = None


def _nodes(children: list[Any]) -> list[Node]:
    return [child for child in children if isinstance(child, Node)]


def _deepest(nodes: list[Node], more: int = 0) -> int:
    depth = max(node.depth for node in nodes) + more
    if depth > MAX_DEPTH:
        raise SelectorError(f"it is nested deeper than {MAX_DEPTH}")
    return depth


def _unquoted(token: Token) -> str:
    quote = token.value[0]
    inner: str = token.value[1:-1]
    return inner.replace(quote * 2, quote)


def _literal(value: Any, kind: str) -> Node:
    return Node(lambda properties: value, kind, value=value)


class Builder(Transformer[Token, Node]):
    """One method per alternative of the grammar, called by the parser as it reduces: no tree, no recursion."""

    def __init__(self, reader: Reader, converts: bool) -> None:
        super().__init__()
        self._reader = reader
        self._converts = converts

    # -- what may stand where

    def _condition(self, node: Node) -> Condition:
        if node.kind in ("condition", "truth"):
            return node.evaluate
        if node.kind == "name":
            evaluate, converts = node.evaluate, self._converts

            def cast(properties: Properties) -> bool | None:
                value = evaluate(properties)
                return None if value is None else truth(value, converts=converts) is True

            return cast
        raise SelectorError(f"a {node.kind} is no condition")

    def _operand(self, node: Node, *, numeric: bool = False) -> Evaluate:
        if node.kind == "condition" or (numeric and node.kind in ("text", "truth")):
            shown = "a condition" if node.kind == "condition" else repr(node.value)
            raise SelectorError(
                f"{shown} cannot be {'put in order or calculated with' if numeric else 'compared'}"
            )
        return node.evaluate

    # -- conditions

    def whole_selector(self, children: list[Any]) -> Node:
        return Node(self._condition(children[0]), "condition")

    def group(self, children: list[Any]) -> Node:
        (node,) = _nodes(children)
        return Node(node.evaluate, node.kind, _deepest([node], 1), node.value)

    def disjunction(self, children: list[Any]) -> Node:
        nodes = _nodes(children)
        conditions = [self._condition(node) for node in nodes]

        def evaluate(properties: Properties) -> bool | None:
            result: bool | None = False
            for condition in conditions:
                value = condition(properties)
                if value:
                    return True
                if value is None:
                    result = None
            return result

        return Node(evaluate, "condition", _deepest(nodes))

    def conjunction(self, children: list[Any]) -> Node:
        nodes = _nodes(children)
        conditions = [self._condition(node) for node in nodes]

        def evaluate(properties: Properties) -> bool | None:
            result: bool | None = True
            for condition in conditions:
                value = condition(properties)
                if value is None:
                    result = None
                elif not value:
                    return False
            return result

        return Node(evaluate, "condition", _deepest(nodes))

    def negate(self, children: list[Any]) -> Node:
        (node,) = _nodes(children)
        condition = self._condition(node)

        def evaluate(properties: Properties) -> bool | None:
            value = condition(properties)
            return None if value is None else not value

        return Node(evaluate, "condition", _deepest([node], 1))

    # -- predicates

    def _equality(self, children: list[Any], wanted: bool) -> Node:
        nodes = _nodes(children)
        left, right = [self._operand(node) for node in nodes]
        converts = self._converts
        return Node(
            lambda properties: equal(left(properties), right(properties), wanted=wanted, converts=converts),
            "condition",
            _deepest(nodes),
        )

    def equals(self, children: list[Any]) -> Node:
        return self._equality(children, True)

    def differs(self, children: list[Any]) -> Node:
        return self._equality(children, False)

    def compare(self, children: list[Any]) -> Node:
        nodes = _nodes(children)
        left, right = [self._operand(node, numeric=True) for node in nodes]
        test = partial(ordered, ORDERS[children[1].value], converts=self._converts)
        return Node(
            lambda properties: test(left(properties), right(properties)), "condition", _deepest(nodes)
        )

    def between(self, children: list[Any]) -> Node:
        """`x BETWEEN a AND b` is `x >= a AND x <= b`, by the rules of those."""
        value, low, high = _nodes(children)
        return self.conjunction(
            [self.compare([value, _ORDER[">="], low]), self.compare([value, _ORDER["<="], high])]
        )

    def outside(self, children: list[Any]) -> Node:
        """`x NOT BETWEEN a AND b` is `x < a OR x > b`."""
        value, low, high = _nodes(children)
        return self.disjunction(
            [self.compare([value, _ORDER["<"], low]), self.compare([value, _ORDER[">"], high])]
        )

    def among(self, children: list[Any]) -> Node:
        nodes = _nodes(children)
        operand = self._operand(nodes[0])
        literals = [node.value for node in nodes[1:]]
        texts = frozenset([literal for literal in literals if isinstance(literal, str)])
        others = [literal for literal in literals if not isinstance(literal, str)]
        if self._converts:
            others = literals  # a number may be spelt
        converts = self._converts

        def evaluate(properties: Properties) -> bool | None:
            value = operand(properties)
            if value is None:
                return None
            if isinstance(value, str) and value in texts:
                return True
            return any(equal(value, other, wanted=True, converts=converts) for other in others)

        return Node(evaluate, "condition", _deepest(nodes))

    def not_among(self, children: list[Any]) -> Node:
        return self.negate([self.among(children)])

    def matches(self, children: list[Any]) -> Node:
        node = children[0]
        texts = [_unquoted(child) for child in children if isinstance(child, Token) and child.type == "TEXT"]
        escape = texts[1] if len(texts) > 1 else None
        if escape is not None and len(escape) != 1:
            raise SelectorError(f"ESCAPE takes one character, not {escape!r}")
        if node.kind not in ("name", "text"):
            raise SelectorError("LIKE is for names of headers")
        operand, test = node.evaluate, like(texts[0], escape)

        def evaluate(properties: Properties) -> bool | None:
            value = operand(properties)
            if value is None:
                return None
            return isinstance(value, str) and test(value)

        return Node(evaluate, "condition", _deepest([node]))

    def not_matches(self, children: list[Any]) -> Node:
        return self.negate([self.matches(children)])

    def absent(self, children: list[Any]) -> Node:
        node = children[0]
        operand = self._operand(node)
        return Node(lambda properties: operand(properties) is None, "condition", _deepest([node]))

    def present(self, children: list[Any]) -> Node:
        node = children[0]
        operand = self._operand(node)
        return Node(lambda properties: operand(properties) is not None, "condition", _deepest([node]))

    # -- values

    def sum(self, children: list[Any]) -> Node:
        """a + b - c, from left to right; a product alike."""
        nodes = _nodes(children)
        first, *rest = [self._operand(node, numeric=True) for node in nodes]
        steps = list(zip([sign.value for sign in children[1::2]], rest, strict=True))
        converts = self._converts

        def evaluate(properties: Properties) -> Any:
            value = first(properties)
            for sign, operand in steps:
                value = arithmetic(sign, value, operand(properties), converts=converts)
                if value is None:
                    return None
            return value

        return Node(evaluate, "number", _deepest(nodes))

    product = sum

    def signed(self, children: list[Any]) -> Node:
        sign, node = children
        operand = self._operand(node, numeric=True)
        converts, is_minus = self._converts, sign.value == "-"

        def evaluate(properties: Properties) -> Any:
            value = number(operand(properties), converts=converts)
            return -value if is_minus and value is not None else value

        value = None if node.value is None else -node.value if is_minus else node.value
        return Node(evaluate, "number", _deepest([node], 1), value)

    def named(self, children: list[Any]) -> Node:
        return Node(self._reader(children[0].value), "name")

    def quoted(self, children: list[Any]) -> Node:
        return Node(self._reader(_unquoted(children[0])), "name")

    def text(self, children: list[Any]) -> Node:
        return _literal(_unquoted(children[0]), "text")

    def real(self, children: list[Any]) -> Node:
        return _literal(float(children[0].value.rstrip("fFdD")), "number")

    def whole(self, children: list[Any]) -> Node:
        """Java's: 0x1F, 017 (octal), 25L."""
        digits = children[0].value.rstrip("lL")
        if len(digits) > MAX_DIGITS:
            raise SelectorError(f"a number has more than {MAX_DIGITS} digits")
        try:
            if digits[:2] in ("0x", "0X"):
                return _literal(int(digits, 16), "number")
            return _literal(int(digits, 8 if digits[0] == "0" else 10), "number")
        except ValueError as error:
            raise SelectorError(f"{digits!r} is no octal number") from error

    def true(self, children: list[Any]) -> Node:
        return _literal(True, "truth")

    def false(self, children: list[Any]) -> Node:
        return _literal(False, "truth")


_ORDER = {sign: Token("ORDER", sign) for sign in ORDERS}


def _keyword(token: Token) -> Token:
    upper = token.value.upper()
    return Token.new_borrow_pos(upper, token.value, token) if upper in KEYWORDS else token


@cache
def _parser(reader: Reader, converts: bool, has_hyphens: bool) -> Lark:
    """LALR, so the time is linear; the tables are made at the first selector of a kind."""
    return Lark(
        GRAMMAR.replace("HYPHEN", "-" if has_hyphens else "") + "%declare " + " ".join(KEYWORDS) + "\n",
        parser="lalr",
        lexer="basic",
        lexer_callbacks={"NAME": _keyword},
        transformer=Builder(reader, converts),
    )


def parse(text: str, reader: Reader, *, converts: bool, has_hyphens: bool) -> Condition:
    """converts: strings are numbers and booleans where they meet such. has_hyphens: `a-b` is one name.

    Raise SelectorError.
    """
    try:
        node: Any = _parser(reader, converts, has_hyphens).parse(text)
    except UnexpectedCharacters as error:
        position = error.pos_in_stream or 0
        raise SelectorError(f"unexpected {text[position]!r} at position {position + 1}") from error
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise SelectorError("it ends too early") from error
        raise SelectorError(
            f"unexpected {error.token.value!r} at position {(error.pos_in_stream or 0) + 1}"
        ) from error
    except LarkError as error:
        raise SelectorError(str(error)) from error
    condition: Condition = node.evaluate
    return condition
