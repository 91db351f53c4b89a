"""Loading: the file, over it the environment, over that the flags; all mistakes are found at once."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from leveret.conf.settings import Setting, Settings, declarations

__all__ = ["Reload", "SettingsError", "load", "merge_reloadable", "parse_bytes"]

CONFIG_VARIABLE = "LEVERET_CONFIG"  # the file itself; read by the command line

# Container images are configured by these; ours win.
RABBITMQ_VARIABLES = {
    "RABBITMQ_DEFAULT_USER": "auth.default_user",
    "RABBITMQ_DEFAULT_PASS": "auth.default_pass",
    "RABBITMQ_DEFAULT_VHOST": "auth.default_vhost",
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTP]?)(i?)(?:[bB])?")
SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list of strings"}


class SettingsError(Exception):
    """What is wrong with the settings; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Wrong(Exception):
    """Why a value does not fit its setting, as the end of a sentence."""


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Settings from all three. `flags`: key ("server.data_dir") to text as typed, or None if not given.

    Raise SettingsError with every mistake in them.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    options: dict[str, Any] = {}
    given = [*_from_file(file, problems, options), *_from_environment(environ, problems), *_from_flags(flags)]
    for source, declared, value in given:
        sources[declared.key] = source
        try:
            values[declared.key] = _typed(declared, value)
        except _Wrong as wrong:
            values.pop(declared.key, None)
            problems.append(f"{source} {wrong}.")
    if options:
        values["plugins.options"] = options
    settings = _build(values)
    if not problems:
        problems += _contradictions(settings, sources)
    if problems:
        raise SettingsError(problems)
    return settings


def _build(values: Mapping[str, Any]) -> Settings:
    settings = Settings()
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    made = {section: replace(getattr(settings, section), **changed) for section, changed in sections.items()}
    return replace(settings, **made)


# -- where values come from


def _from_file(
    file: Path | None, problems: list[str], options: dict[str, Any]
) -> Iterator[tuple[str, Setting, Any]]:
    if file is None:
        return
    import tomllib  # only those who have a file wait for it

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}.")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file} is not TOML: {error}.")
        return
    known = declarations()
    sections = {declared.section for declared in known.values()}
    for section, content in document.items():
        if section not in sections:
            problems.append(f"{file}: there is no section [{section}]{_nearest(section, sections)}")
        elif not isinstance(content, dict):
            problems.append(f"{file}: {section} must be a section, [{section}].")
        else:
            for name, value in content.items():
                key = f"{section}.{name}"
                if key in known:
                    yield f"{file}: {key}", known[key], value
                elif section == "plugins" and isinstance(value, dict):
                    options[name] = value
                else:
                    names = {one.name for one in known.values() if one.section == section}
                    problems.append(f"{file}: there is no setting {key}{_nearest(name, names)}")


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, Setting, Any]]:
    known = declarations()
    for variable, key in RABBITMQ_VARIABLES.items():
        if environ.get(variable):
            yield variable, known[key], environ[variable]
    names: dict[str, tuple[int, Setting]] = {}
    for declared in known.values():
        for rank, name in enumerate(declared.environment_names):
            names[name] = (rank, declared)
    found: list[tuple[int, str, Setting]] = []
    for variable in environ:
        if variable in names:
            found.append((names[variable][0], variable, names[variable][1]))
        elif variable.startswith("LEVERET_") and variable != CONFIG_VARIABLE:
            problems.append(f"{variable}: there is no such setting{_nearest(variable, names)}")
    for _, variable, declared in sorted(found, key=lambda item: -item[0]):  # short names last: they win
        yield variable, declared, environ[variable]


def _from_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, Setting, Any]]:
    known = declarations()
    for key, value in flags.items():
        if value is not None:
            yield known[key].flag or key, known[key], value


def _nearest(name: str, names: Iterable[str]) -> str:
    """The end of the sentence: what was meant, perhaps."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else "."


# -- from text, or TOML, to values


def _typed(declared: Setting, value: Any) -> Any:
    """The value in its type, within its range. Text is read as the type; TOML's own types are taken strictly."""
    if declared.is_optional and (value is None or value is False or value == "off"):
        return None
    kind = declared.kind
    if kind is str or kind is Path:
        value = _text(declared, value)
    elif kind is tuple:
        value = _texts(value)
        for one in value:
            if declared.choices and one not in declared.choices:
                raise _Wrong(f"may have {', '.join(declared.choices)}, not {one!r}")
    elif kind is bool:
        value = _boolean(value)
    else:
        value = _number(declared, value)
        _check_range(declared, value)
    return value


def _text(declared: Setting, value: Any) -> Any:
    if not isinstance(value, str):
        raise _Wrong(f"must be text, not {_shown(declared, value)}")
    if declared.choices and value not in declared.choices:
        raise _Wrong(f"must be one of {', '.join(declared.choices)}, not {_shown(declared, value)}")
    if declared.kind is Path:
        if not value:
            raise _Wrong("must name a directory")
        return Path(value).expanduser().absolute()
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise _Wrong(f"must be a list of strings, not {value!r}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE | FALSE:
        return value.lower() in TRUE
    raise _Wrong(f"must be true or false, not {value!r}")


def _number(declared: Setting, value: Any) -> int | float:
    number: int | float | None = None
    if isinstance(value, str):
        number = _parse_number(declared, value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is None or not math.isfinite(number) or (declared.kind is int and not isinstance(number, int)):
        what = KIND_NAMES[declared.kind]
        if declared.unit == "bytes":
            what += ' of bytes, or text like "64 MiB"'
        elif declared.is_optional:
            what += ' or "off"'
        raise _Wrong(f"must be {what}, not {value!r}")
    return declared.kind(number)  # type: ignore[no-any-return]  # int or float


def _parse_number(declared: Setting, text: str) -> int | float | None:
    if declared.unit == "bytes":
        try:
            return parse_bytes(text)
        except ValueError:
            pass
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def parse_bytes(text: str) -> int:
    """Bytes, with or without a unit: "1000", "50 MB" (10^6), "64 MiB" (2^20). Raise ValueError, a sentence."""
    match = SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'a size is a number of bytes, or text like "64 MiB", not {text!r}')
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** SIZE_POWERS[prefix.lower()])


def _check_range(declared: Setting, value: float) -> None:
    low, high = declared.minimum, declared.maximum
    if low is not None and high is not None and not low <= value <= high:
        raise _Wrong(f"must be between {low} and {high}, not {value}")
    if low is not None and value < low:
        raise _Wrong(f"must be at least {low}, not {value}")


def _shown(declared: Setting, value: Any) -> str:
    return "what was given" if declared.is_secret else repr(value)


def _contradictions(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    def name(key: str) -> str:
        return sources.get(key, key)

    tls = settings.tls
    for listener in ("amqps", "mqtts", "stomps", "https", "web_stomps", "web_mqtts"):
        if getattr(settings.listeners, listener) is not None and not tls.certfile:
            yield f"{name(f'listeners.{listener}')} opens a TLS listener, but tls.certfile names no certificate."
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
    sections: dict[str, Any] = {}
    for section in fields(Settings):
        old, new = getattr(running, section.name), getattr(loaded, section.name)
        taken: dict[str, Any] = {}
        for one in fields(old):
            value = getattr(new, one.name)
            if value == getattr(old, one.name):
                continue
            key = f"{section.name}.{one.name}"
            if key in declarations() and declarations()[key].is_reloadable:
                changed.append(key)
                taken[one.name] = value
            else:
                needs_restart.append(key)
        sections[section.name] = replace(old, **taken)
    return Reload(Settings(**sections), tuple(changed), tuple(needs_restart))
