"""Columns, keys of bindings, dates of certificates: what needs no server."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from leveret.adapters.http.json_encoding import encode, encode_exactly
from leveret.adapters.http.management.area import table
from leveret.adapters.http.management.bindings import properties_key
from leveret.adapters.http.management.certificates import not_after
from leveret.adapters.http.management.columns import columns_of, cut
from leveret.core.exchange import Binding

QUEUE: Any = SimpleNamespace(name="q", kind="queue")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "~"),
        ("a.b", "a.b"),
        ("a.#", "a.%23"),
        ("a~b", "a%7Eb"),
        ("a b/c", "a+b%2Fc"),
        ("ü*", "%C3%BC%2A"),
    ],
)
def test_the_key_of_a_binding_without_arguments_is_its_quoted_routing_key(key: str, expected: str) -> None:
    assert properties_key(Binding(QUEUE, key)) == expected


def test_arguments_make_another_key() -> None:
    keys = [
        properties_key(Binding(QUEUE, "k", arguments))
        for arguments in ({"x": 1, "y": "z"}, {"y": "z", "x": 1}, {"x": 2, "y": "z"})
    ]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].startswith("k~")
    assert properties_key(Binding(QUEUE, "", {"x": 1})).startswith("~")


def test_columns_cut_objects_and_lists_of_objects() -> None:
    tree = columns_of("name,stats.publish.rate,owners.name,nope")
    assert tree is not None
    item = {
        "name": "q",
        "stats": {"publish": {"rate": 1.0, "samples": []}, "ack": 3},
        "owners": [{"name": "a", "port": 1}, {"port": 2}],
        "more": 1,
    }
    assert cut(item, tree) == {
        "name": "q",
        "stats": {"publish": {"rate": 1.0}},
        "owners": [{"name": "a"}, {}],
    }
    assert columns_of("") is None


def test_field_values_become_json() -> None:
    value = {
        "bytes": b"a\xff",
        "time": datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC),
        "surrogate": "a\udcff",
        "set": {"b", "a"},
    }
    not_utf_8 = b'"Not UTF-8, base64 is: Yf8="'
    assert encode(value) == (
        b'{"bytes":' + not_utf_8 + b',"time":86400,"surrogate":' + not_utf_8 + b',"set":["a","b"]}'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\udcff", "Not UTF-8, base64 is: /w=="),
        ("a\ud800", "Not UTF-8, base64 is: Ye2ggA=="),
        ("\U0001f600", "\U0001f600"),
        ("\\udcff", "\\udcff"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_strict_parsers_read_every_string(text: str, shown: str) -> None:
    value = {text: [text, (text,), {"in": {text}}, float("inf"), Decimal("1.5"), None, True, b"x"]}
    read = json.loads(encode(value))
    json.dumps(read, ensure_ascii=False).encode()  # refuses lone surrogates, as strict parsers do
    assert read == {shown: [shown, [shown], {"in": [shown]}, "Infinity", 1.5, None, True, "x"]}


def test_exact_json_keeps_bytes_that_are_not_utf8() -> None:
    assert json.loads(encode_exactly({"a\udcff": "\udcff"})) == {"a\udcff": "\udcff"}


def test_certificates_say_when_they_expire(tmp_path: Path) -> None:
    soon = datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    late = datetime.datetime(2101, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)  # a GeneralizedTime
    authority = trustme.CA()
    path = tmp_path / "chain.pem"
    for number, until in enumerate((soon, late)):
        authority.issue_cert("localhost", not_after=until).cert_chain_pems[0].write_to_path(
            path, append=number > 0
        )
    assert not_after(path) == [soon, late]
    path.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match="certificate"):
        not_after(path)


def test_every_route_says_what_it_is() -> None:
    rows = list(table())
    assert len({(row.method, row.path) for row in rows}) == len(rows)
    for row in rows:
        assert row.path.startswith("/")
        assert row.summary.endswith("."), row
