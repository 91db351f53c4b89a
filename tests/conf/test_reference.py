"""conf/leveret.toml and docs/settings.md are written from the declarations."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from support.registries import installed

from leveret.conf.load import load
from leveret.conf.reference import all_sections, as_markdown, as_toml
from leveret.plugins.loader import declarations_of

FILE = files("leveret.conf") / "leveret.toml"
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_references_are_current() -> None:
    owned = declarations_of(installed())
    assert FILE.read_text(encoding="utf-8") == as_toml(owned), "run `leveret settings > conf/leveret.toml`"
    assert PAGE.read_text(encoding="utf-8") == as_markdown(owned), (
        "run `leveret settings --format markdown > docs/settings.md`"
    )


def test_reference_is_the_defaults() -> None:
    owned = declarations_of(installed())
    with as_file(FILE) as file:
        assert load(file, {}, {}, owned) == load(None, {}, {}, owned)


def test_every_setting_is_in_the_reference_with_its_meaning() -> None:
    owned = declarations_of(installed())
    text = as_toml(owned)
    for section in all_sections(owned):
        assert section.doc
        for row in section.rows:
            assert row.doc
            assert f"{row.name} = " in text
