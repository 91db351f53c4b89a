"""Listings as rabbitmqctl shows them."""

from __future__ import annotations

import json

import pytest

from leveret.adapters.cli.formats import cell, printable, render

COLUMNS = ["name", "messages"]
ROWS = [{"name": "q1", "messages": 2}, {"name": "tab\there", "messages": 0}]


def test_table_for_programs_is_separated_by_tabs() -> None:
    assert render(COLUMNS, ROWS, "table") == "name\tmessages\nq1\t2\ntab\\there\t0"
    assert render(COLUMNS, ROWS, "table", has_headers=False) == "q1\t2\ntab\\there\t0"
    assert render(COLUMNS, [], "table") == ""


def test_table_for_people_is_aligned() -> None:
    lines = render(COLUMNS, ROWS, "table", is_terminal=True).splitlines()
    assert [line.split() for line in lines] == [["name", "messages"], ["q1", "2"], ["tab\\there", "0"]]
    assert len({line.index(last) for line, last in zip(lines, ("messages", "2", "0"), strict=True)}) == 1
    assert render(COLUMNS, ROWS, "pretty_table").startswith("+-")


def test_json_is_a_list_of_objects() -> None:
    assert json.loads(render(COLUMNS, ROWS, "json")) == ROWS
    assert json.loads(render(COLUMNS, [], "json")) == []


def test_csv_is_quoted_where_needed() -> None:
    assert render(["a"], [{"a": 'x,"y"'}], "csv") == 'a\n"x,""y"""'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (5, "5"),
        (["administrator", "x"], "[administrator, x]"),
        ([], "[]"),
        ([["x-max-length", "signedint", 5], ["d", "longstr", 'a"b']], '[{"x-max-length",5},{"d","a\\"b"}]'),
        ({"max-length": 1}, '{"max-length":1}'),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_names_that_are_no_text_are_escaped() -> None:
    assert printable("q\udcff") == "q\\udcff"
