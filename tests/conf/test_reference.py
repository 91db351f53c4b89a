"""conf/leveret.toml is written from the declarations."""

from __future__ import annotations

from importlib.resources import as_file, files

from leveret.conf.load import load
from leveret.conf.reference import reference
from leveret.conf.settings import Settings, declarations

FILE = files("leveret.conf") / "leveret.toml"


def test_reference_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), (
        "run `python -m leveret.conf.reference > conf/leveret.toml`"
    )


def test_reference_is_the_defaults() -> None:
    with as_file(FILE) as file:
        assert load(file, {}, {}) == Settings()


def test_every_setting_is_in_the_reference_with_its_meaning() -> None:
    text = reference()
    for declared in declarations().values():
        assert declared.doc
        assert f"{declared.name} = " in text
