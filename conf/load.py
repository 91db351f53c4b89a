"""Loading: the file, over it the environment, over that the flags; all mistakes are found at once.

The shared sections are always known. What adapters, backends, stores, exchange types and plugins declare comes from the
composition root as `Declarations`, and is imported only if the configuration names its owner.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from leveret.conf.declare import DeclarationError, Setting, declared, environment_name
from leveret.conf.settings import Settings, declarations, shared_sections
from leveret.conf.values import parse_bytes, typed

__all__ = ["Declarations", "Reload", "SettingsError", "load", "merge_reloadable", "parse_bytes"]

CONFIG_VARIABLE = "LEVERET_CONFIG"  # the file itself; read by the command line

# Container images are configured by these; ours win.
RABBITMQ_VARIABLES = {
    "RABBITMQ_DEFAULT_USER": "auth.default_user",
    "RABBITMQ_DEFAULT_PASS": "auth.default_pass",
    "RABBITMQ_DEFAULT_VHOST": "auth.default_vhost",
}


class SettingsError(Exception):
    """What is wrong with the settings; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Declarations:
    """What is declared beside the shared settings.

    sections: by name, a function that imports the owner and returns the dataclass that it declares, or None if it
    declares none; it raises DeclarationError if the owner cannot be had.
    always: names of those that are loaded whatever the configuration says: the adapters'.
    ports: the settings of the listeners' ports; tls_ports: the keys of those that speak TLS.
    """

    sections: Mapping[str, Callable[[], type | None]] = field(default_factory=dict)
    always: tuple[str, ...] = ()
    ports: tuple[Setting, ...] = ()
    tls_ports: frozenset[str] = frozenset()


def load(
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    owned: Declarations | None = None,
    *,
    only: str = "",
) -> Settings:
    """Settings from all three. `flags`: key ("server.data_dir") to text as typed, or None if not given.

    owned: what is declared beside the shared sections; None: only these are loaded, and what `auth.backends`,
    `store.engine` and `plugins.enabled` name is not looked for.
    only: the one section to load, for programs that need no other; the rest is not checked either.

    Raise SettingsError with every mistake in them.
    """
    return _Loading(owned, only).load(file, environ, flags)


class _Loading:
    """One call of `load`: what is known by then, and what was found wrong."""

    def __init__(self, owned: Declarations | None, only: str) -> None:
        self._owned = owned or Declarations()
        self._must_exist = owned is not None
        self._only = only
        self._types: dict[str, type] = {}  # the owned sections that are loaded
        self._tried: set[str] = set()
        self._rows: dict[str, Setting] = {}  # by key, and by the former key
        self._problems: list[str] = []
        self._values: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._know(declarations() | {row.key: row for row in self._owned.ports})

    def load(self, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
        for name in self._owned.always:
            self._require(name)
        given = [
            *self._from_file(_document(file, self._problems), str(file)),
            *self._from_environment(environ),
            *self._from_flags(flags),
        ]
        for source, row, value in given:
            self._take(source, row, value)
        settings = self._build()
        if not self._only:
            settings = self._with_named(settings)
            self._check()
            if not self._problems:
                self._problems += _contradictions(settings, self._sources, self._owned.tls_ports)
        if self._problems:
            raise SettingsError(self._problems)
        return settings

    # -- what is declared

    def _know(self, rows: Mapping[str, Setting]) -> None:
        self._rows |= rows
        self._rows |= {row.former: row for row in rows.values() if row.former}

    def _require(self, section: str) -> None:
        """Import the owner of a section, once."""
        if section in self._tried:
            return
        self._tried.add(section)
        try:
            declaration = self._owned.sections[section]()
            if declaration is not None:
                self._know(declared(section, declaration))
                self._types[section] = declaration
        except DeclarationError as error:
            self._problems.append(f"{error}.")

    def _sections(self) -> set[str]:
        """All names that may stand in brackets; also of those that only have sections inside."""
        known = {key.rpartition(".")[0] for key in self._rows} | self._owned.sections.keys()
        return known | {name.partition(".")[0] for name in known}

    # -- where values come from

    def _from_file(self, document: Mapping[str, Any], file: str) -> Iterator[tuple[str, Setting, Any]]:
        sections = self._sections()
        for section, content in document.items():
            if self._only and section != self._only:
                continue
            if section not in sections:
                self._problems.append(f"{file}: there is no section [{section}]{_nearest(section, sections)}")
            elif not isinstance(content, dict):
                self._problems.append(f"{file}: {section} must be a section, [{section}].")
            else:
                yield from self._from_section(section, content, file)

    def _from_section(
        self, section: str, content: Mapping[str, Any], file: str
    ) -> Iterator[tuple[str, Setting, Any]]:
        if section in self._owned.sections:
            self._require(section)
        for name, value in content.items():
            key = f"{section}.{name}"
            if key in self._rows:
                yield f"{file}: {key}", self._rows[key], value
            elif key in self._owned.sections and isinstance(value, dict):
                yield from self._from_section(key, value, file)
            elif isinstance(value, dict):
                inner = [one for one in self._owned.sections if one.startswith(f"{section}.")]
                self._problems.append(f"{file}: there is no section [{key}]{_nearest(key, inner)}")
            else:
                names = [row.name for row in self._rows.values() if row.section == section]
                self._problems.append(f"{file}: there is no setting {key}{_nearest(name, names)}")

    def _from_environment(self, environ: Mapping[str, str]) -> Iterator[tuple[str, Setting, Any]]:
        for variable, key in RABBITMQ_VARIABLES.items():
            if environ.get(variable):
                yield variable, self._rows[key], environ[variable]
        names = self._environment_names()
        ours = [name for name in environ if name.startswith("LEVERET_") and name != CONFIG_VARIABLE]
        for section in self._owned.sections:  # those that only the environment names
            prefix = environment_name(section) + "_"
            if any(name.startswith(prefix) and name not in names for name in ours):
                self._require(section)
        names = self._environment_names()
        found = []
        for variable in ours:
            if variable in names:
                found.append((*names[variable], variable))
            elif not self._only:
                self._problems.append(f"{variable}: there is no such setting{_nearest(variable, names)}")
        for _, row, variable in sorted(found, key=lambda item: -item[0]):  # short names last: they win
            yield variable, row, environ[variable]

    def _environment_names(self) -> dict[str, tuple[int, Setting]]:
        """Each variable's rank among those of its setting, and its setting."""
        return {
            name: (rank, row)
            for row in self._rows.values()
            for rank, name in enumerate(row.environment_names)
        }  # fmt: skip

    def _from_flags(self, flags: Mapping[str, Any]) -> Iterator[tuple[str, Setting, Any]]:
        for key, value in flags.items():
            if value is not None:
                yield self._rows[key].flag or key, self._rows[key], value

    # -- what they make

    def _take(self, source: str, row: Setting, value: Any) -> None:
        if self._only and row.section != self._only:
            return
        self._sources[row.key] = source
        try:
            self._values[row.key] = typed(row, value)
        except ValueError as error:
            self._values.pop(row.key, None)
            self._problems.append(f"{source} {error}.")

    def _build(self) -> Settings:
        sections: dict[str, dict[str, Any]] = {}
        ports = {row.name: self._values.pop(row.key, row.default) for row in self._owned.ports}
        if ports:
            sections["listeners"] = {"ports": ports}
        for key, value in self._values.items():
            row = self._rows[key]
            sections.setdefault(row.section, {})[row.name] = value
        shared = {
            name: declaration(**sections[name])
            for name, declaration in shared_sections().items()
            if name in sections
        }
        owned = {name: declaration(**sections.get(name, {})) for name, declaration in self._types.items()}
        return replace(Settings(), **shared, owned=owned)

    def _with_named(self, settings: Settings) -> Settings:
        """The sections of those that the settings name, with their defaults if nothing is given for them."""
        named = {
            "auth.backends": [f"auth.{name}" for name in settings.auth.backends],
            "store.engine": [f"store.{settings.store.engine}"],
            "plugins.enabled": [f"plugins.{name}" for name in settings.plugins.enabled],
        }
        for key, sections in named.items() if self._must_exist else ():
            for section in sections:
                name = section.partition(".")[2]
                if section in self._owned.sections:
                    self._require(section)
                elif key != "plugins.enabled" or f"exchanges.{name}" not in self._owned.sections:
                    kind = section.partition(".")[0] + "."
                    names = [one.removeprefix(kind) for one in self._owned.sections if one.startswith(kind)]
                    source = self._sources.get(key, key)
                    self._problems.append(
                        f"{source} names '{name}', which is not installed{_nearest(name, names)}"
                    )
        added = {name: made() for name, made in self._types.items() if name not in settings.owned}
        return replace(settings, owned={**settings.owned, **added}) if added else settings

    def _check(self) -> None:
        """Each declaration's own checks; of defaults, too, where the section is in use."""
        for key, row in self._rows.items():
            if row.check is None or key != row.key or (key in self._sources and key not in self._values):
                continue
            try:
                row.check(self._values.get(key, row.default))
            except ValueError as error:
                self._problems.append(f"{self._sources.get(key, key)} {error}.")


def _document(file: Path | None, problems: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    import tomllib  # only those who have a file wait for it

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}.")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file} is not TOML: {error}.")
    return {}


def _nearest(name: str, names: Iterable[str]) -> str:
    """The end of the sentence: what was meant, perhaps."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else "."


def _contradictions(
    settings: Settings, sources: Mapping[str, str], tls_ports: Iterable[str]
) -> Iterator[str]:
    def name(key: str) -> str:
        return sources.get(key, key)

    tls = settings.tls
    for key in sorted(tls_ports):
        if settings.listeners.ports[key.partition(".")[2]] is not None and not tls.certfile:
            yield f"{name(key)} opens a TLS listener, but tls.certfile names no certificate."
    if tls.verify_peer and not tls.cafile:
        yield f"{name('tls.verify_peer')} needs tls.cafile: the authorities to trust."
    if tls.fail_if_no_peer_cert and not tls.verify_peer:
        yield f"{name('tls.fail_if_no_peer_cert')} has no effect without tls.verify_peer."
    if not settings.auth.backends:
        yield f"{name('auth.backends')} is empty: nobody could log in."


# -- at run time


@dataclass(frozen=True, slots=True)
class Reload:
    """What loading the settings again at run time means.

    settings: the running ones with all changes that can be made now. changed: keys of these.
    needs_restart: keys of changes that were left out.
    """

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def merge_reloadable(running: Settings, loaded: Settings) -> Reload:
    """Take over from `loaded` what may change at run time."""
    changed: list[str] = []
    needs_restart: list[str] = []

    def merged(name: str, old: Any, new: Any) -> Any:
        taken: dict[str, Any] = {}
        for one in fields(old):
            value, was = getattr(new, one.name), getattr(old, one.name)
            if value == was:
                continue
            if one.name == "ports":
                needs_restart.extend(f"{name}.{port}" for port in value if value[port] != was.get(port))
                continue
            is_reloadable = one.metadata.get("reloadable", False)
            (changed if is_reloadable else needs_restart).append(f"{name}.{one.name}")
            if is_reloadable:
                taken[one.name] = value
        return replace(old, **taken)

    shared = {name: merged(name, getattr(running, name), getattr(loaded, name)) for name in shared_sections()}
    owned: dict[str, Any] = {}
    for name in {**running.owned, **loaded.owned}:
        old, new = running.owned.get(name), loaded.owned.get(name)
        declaration: type[Any] = type(new if old is None else old)
        owned[name] = merged(name, old or declaration(), new or declaration())
    return Reload(Settings(**shared, owned=owned), tuple(changed), tuple(needs_restart))
