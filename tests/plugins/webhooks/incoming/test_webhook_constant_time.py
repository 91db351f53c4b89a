"""Secrets and signatures are compared in constant time: by hmac.compare_digest alone, and with all of several secrets.

The code itself is examined, since a comparison's time cannot be measured reliably.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from leveret.plugins.webhooks import standard_webhooks
from leveret.plugins.webhooks.incoming import challenges, hmac_schemes, signed_request, verifiers

MODULES = (standard_webhooks, challenges, hmac_schemes, signed_request, verifiers)


def faults(source: str) -> Iterator[str]:
    """Comparisons that may tell something of a secret by the time they take."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
                is_equality = isinstance(operator, (ast.Eq, ast.NotEq, ast.In, ast.NotIn))
                if is_equality and not (_is_constant(left) or _is_constant(right)):
                    yield ast.unparse(node)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            if _compares(node):  # any() and all() end with the first answer
                yield ast.unparse(node)
        elif isinstance(node, (ast.For, ast.While)) and _compares(node):
            ends = [one for one in ast.walk(node) if isinstance(one, (ast.Return, ast.Break))]
            if ends:
                yield ast.unparse(node)


def _is_constant(node: ast.expr) -> bool:
    """Literals, constants of the module and truth values: no secret is compared by comparing with them."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return all(map(_is_constant, node.elts))
    if isinstance(node, ast.BinOp):
        return _is_constant(node.left) and _is_constant(node.right)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "bool"
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def _compares(node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.Attribute | ast.Name) and ast.unparse(one).endswith("compare_digest")
        for one in ast.walk(node)
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_secrets_are_compared_in_constant_time(module: ModuleType) -> None:
    assert list(faults(inspect.getsource(module))) == []


@pytest.mark.parametrize(
    "fault",
    [
        "given.header(name) == token",
        "len(given) == len(secret) and given == secret",
        "name != self.username",
        "given in self.secrets",
        "digest not in expected",
        "any(hmac.compare_digest(given, one) for one in secrets)",
        "[compare_digest(given, one) for one in secrets]",
        "for one in secrets:\n    if hmac.compare_digest(given, one):\n        break",
    ],
)
def test_the_examination_finds_other_comparisons(fault: str) -> None:
    assert list(faults(fault)) != []


def test_a_value_is_compared_with_all_secrets_whichever_fits() -> None:
    class Counted(list[bytes]):
        taken = 0

        def __iter__(self) -> Iterator[bytes]:
            for one in super().__iter__():
                self.taken += 1
                yield one

    for value, expected in ((b"a", True), (b"b", True), (b"c", True), (b"d", False)):
        secrets = Counted([b"a", b"b", b"c"])
        assert standard_webhooks.equals_any(value, secrets) is expected
        assert secrets.taken == 3
