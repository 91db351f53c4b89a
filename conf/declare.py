"""How a setting is declared: a field of a frozen dataclass, with its default, unit, range and meaning.

A section of the settings is such a dataclass. The shared sections stand in conf/settings.py; adapters, authentication
backends, stores, exchange types and plugins declare one each as their `settings_type`, with the same functions:

    @dataclass(frozen=True, slots=True)
    class LdapSettings:
        url: str = setting("ldap://localhost", "the directory")
        timeout_s: float = seconds(5.0, "how long an answer may take", reloadable=True)

The loader (conf/load.py), the reference (conf/reference.py) and the command line read the fields as `Setting` rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, get_type_hints, runtime_checkable

__all__ = [
    "DeclarationError",
    "GiB",
    "KiB",
    "MiB",
    "Reconfigurable",
    "Setting",
    "TiB",
    "WrongValue",
    "declared",
    "environment_name",
    "port_setting",
    "seconds",
    "setting",
    "size",
]

KiB, MiB, GiB, TiB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
PORT_MAX = 65535


class WrongValue(ValueError):
    """Why a value does not fit its setting, as the end of a sentence: "must be ..."."""


class DeclarationError(Exception):
    """A section cannot be declared, or its owner cannot be imported; one sentence that names the owner."""


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], None] | None = None,
    flag: str = "",
    former: str = "",
    reloadable: bool = False,
    secret: bool = False,
) -> Any:
    """Declare one setting, as the value of a dataclass field.

    The field's type is one of bool, int, float, str, Path, tuple[str, ...], int | None (None is written "off") and
    Mapping[str, tuple[str, ...]] (a table of lists).

    default: a value, or a function that computes it at start because it depends on the machine.
    doc: what it means: the end of a sentence, in lower case.
    unit: "bytes" (a value may then be written "64 MiB"), "seconds", or a plural noun.
    minimum, maximum: the range of a number. choices: the values a text, or an item of a list, may have.
    check: raises ValueError with the end of a sentence ("must be a network") for a value that cannot be used. It is
    called with defaults, too, so that a setting without a usable default must be given.
    flag: the option of `leveret serve` that sets it ("--data-dir"), which also gives the short name of its environment
    variable (LEVERET_DATA_DIR). Shared sections, adapters and listeners have flags.
    former: the key under which older configurations know it ("amqp.version"); it goes on working.
    reloadable: a change takes effect on SIGHUP. secret: the value is shown nowhere.
    """
    metadata = {
        "doc": doc, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices, "check": check,
        "flag": flag, "former": former, "reloadable": reloadable,
    }  # fmt: skip
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    if isinstance(default, Mapping):
        return field(
            default_factory=lambda: default, metadata=metadata | {"default": default}, repr=not secret
        )
    return field(default=default, metadata=metadata, repr=not secret)


def seconds(default: float, doc: str, **options: Any) -> Any:
    """A setting in seconds, 0 or more."""
    return setting(default, doc, unit="seconds", minimum=0, **options)


def size(default: int, doc: str, minimum: int = 0, maximum: int | None = None, **options: Any) -> Any:
    """A setting in bytes."""
    return setting(default, doc, unit="bytes", minimum=minimum, maximum=maximum, **options)


@dataclass(frozen=True, slots=True)
class Setting:
    """One declaration, as the loader, the reference and the command line read it.

    section: "amqp", or "auth.ldap" for what stands in a section of a section.
    kind: bool, int, float, str, Path, tuple (of texts) or dict (of tuples); is_optional: "off" (None) is a value, too.
    default: None if it `is_computed`, that is, depends on the machine.
    """

    section: str
    name: str
    kind: type
    is_optional: bool
    default: Any
    doc: str
    is_computed: bool = False
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    flag: str = ""
    former: str = ""
    is_reloadable: bool = False
    is_secret: bool = False

    @property
    def key(self) -> str:
        """As in the file: "amqp.frame_max"."""
        return f"{self.section}.{self.name}"

    @property
    def environment_names(self) -> tuple[str, ...]:
        """The short one, if it has a flag, the full one, and that of its former key; in order of precedence."""
        short = environment_name(self.flag.removeprefix("--")) if self.flag else ""
        names = (short, environment_name(self.key), environment_name(self.former) if self.former else "")
        return tuple(dict.fromkeys(name for name in names if name))


def environment_name(key: str) -> str:
    """LEVERET_AUTH_LDAP_URL for "auth.ldap.url"."""
    return "LEVERET_" + re.sub(r"[^0-9A-Za-z]", "_", key).upper()


def port_setting(name: str, default: int | None, doc: str) -> Setting:
    """The setting of a listener's port, `listeners.NAME`; hyphens of the listener's name are underscores in it."""
    return Setting(
        section="listeners", name=name.replace("-", "_"), kind=int, is_optional=True, default=default,
        doc=f'{doc}; 0: any free one, "off": no such listener', unit="port", minimum=0, maximum=PORT_MAX,
        flag=f"--{name}",
    )  # fmt: skip


@runtime_checkable
class Reconfigurable(Protocol):
    """A backend or a plugin with reloadable settings. (Adapters read theirs from the broker when they need them.)"""

    def reconfigure(self, settings: Any) -> None:
        """Its section after a reload in which some of it has changed. Called in the broker's thread; must not raise."""


_KINDS: dict[Any, tuple[type, bool]] = {
    bool: (bool, False),
    int: (int, False),
    int | None: (int, True),
    float: (float, False),
    str: (str, False),
    Path: (Path, False),
    tuple[str, ...]: (tuple, False),
    Mapping[str, tuple[str, ...]]: (dict, False),
}


def declared(section: str, declaration: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by key, in the order of its fields. Raise DeclarationError."""
    if not is_dataclass(declaration):
        raise DeclarationError(f"{declaration!r}, which declares the section [{section}], is not a dataclass")
    try:
        hints = get_type_hints(declaration)
    except NameError as error:
        raise DeclarationError(f"the types of the section [{section}] cannot be told: {error}") from error
    found: dict[str, Setting] = {}
    for one in fields(declaration):
        metadata = one.metadata
        if not metadata:  # not a setting, but what the loader keeps beside them
            continue
        if hints[one.name] not in _KINDS:
            raise DeclarationError(f"{section}.{one.name} is declared with a type that no setting can have")
        kind, is_optional = _KINDS[hints[one.name]]
        default = metadata.get("default", one.default)
        row = Setting(
            section=section, name=one.name, kind=kind, is_optional=is_optional,
            default=None if default is MISSING else default, is_computed=default is MISSING,
            doc=metadata["doc"], unit=metadata["unit"], minimum=metadata["minimum"], maximum=metadata["maximum"],
            choices=metadata["choices"], check=metadata["check"], flag=metadata["flag"], former=metadata["former"],
            is_reloadable=metadata["reloadable"], is_secret=not one.repr,
        )  # fmt: skip
        found[row.key] = row
    return found
