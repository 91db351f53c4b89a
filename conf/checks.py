"""What every declaration of settings must be, as a function; the checks of adapters, backends and plugins call it."""

from __future__ import annotations

from dataclasses import fields

from leveret.conf.declare import Reconfigurable, declared
from leveret.conf.values import typed

__all__ = ["check_settings", "check_settings_of"]


def check_settings(declaration: type) -> None:
    """A frozen dataclass whose fields are all settings with a meaning, and whose defaults fit their own ranges."""
    rows = declared("checked", declaration)
    assert declaration.__dataclass_params__.frozen, f"{declaration.__name__} is not frozen"  # type: ignore[attr-defined]
    assert declaration.__doc__, f"{declaration.__name__} has no docstring: it is the comment of the section"
    names = {row.name for row in rows.values()}
    for one in fields(declaration):
        assert one.name in names, f"{declaration.__name__}.{one.name} is not declared with `setting`"
    for row in rows.values():
        assert row.doc, f"{row.name} has no meaning"
        assert not row.doc.endswith("."), (
            f"the meaning of {row.name} is the end of a sentence, without its full stop"
        )
        if not row.is_computed:
            typed(row, list(row.default) if row.kind is tuple else row.default)


def check_settings_of(owner: type) -> None:
    """The settings of a backend or a plugin: what is reloadable is also taken over."""
    declaration: type | None = getattr(owner, "settings_type", None)
    if declaration is None:
        return
    check_settings(declaration)
    if any(row.is_reloadable for row in declared("checked", declaration).values()):
        assert issubclass(owner, Reconfigurable), (
            f"{owner.__name__} has reloadable settings, but no reconfigure()"
        )
