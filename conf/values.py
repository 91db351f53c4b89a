"""From text, or TOML's types, to the values of settings."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

from leveret.conf.declare import Setting, WrongValue

__all__ = ["parse_bytes", "typed"]

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTP]?)(i?)(?:[bB])?")
SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list of strings"}


def typed(declared: Setting, value: Any) -> Any:
    """The value in its type, within its range. Text is read as the type; TOML's own types are taken strictly.

    Raise WrongValue with the end of a sentence about it: "must be ...".
    """
    if declared.is_optional and (value is None or value is False or value == "off"):
        return None
    kind = declared.kind
    if kind is str or kind is Path:
        value = _text(declared, value)
    elif kind is tuple:
        value = _texts(value)
        for one in value:
            if declared.choices and one not in declared.choices:
                raise WrongValue(f"may have {', '.join(declared.choices)}, not {one!r}")
    elif kind is dict:
        value = _table(value)
    elif kind is bool:
        value = _boolean(value)
    else:
        value = _number(declared, value)
        _check_range(declared, value)
    return value


def _text(declared: Setting, value: Any) -> Any:
    if not isinstance(value, str):
        raise WrongValue(f"must be text, not {_shown(declared, value)}")
    if declared.choices and value not in declared.choices:
        raise WrongValue(f"must be one of {', '.join(declared.choices)}, not {_shown(declared, value)}")
    if declared.kind is Path:
        if not value:
            raise WrongValue("must name a directory")
        return Path(value).expanduser().absolute()
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise WrongValue(f"must be a list of strings, not {value!r}")


def _table(value: Any) -> dict[str, tuple[str, ...]]:
    """From a variable of the environment as JSON."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # told below
            value = json.loads(value)
    if not isinstance(value, dict):
        raise WrongValue(f"must be a table of lists of strings, not {value!r}")
    return {name: _texts(one) for name, one in value.items()}


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE | FALSE:
        return value.lower() in TRUE
    raise WrongValue(f"must be true or false, not {value!r}")


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
        raise WrongValue(f"must be {what}, not {value!r}")
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
        raise WrongValue(f"must be between {low} and {high}, not {value}")
    if low is not None and value < low:
        raise WrongValue(f"must be at least {low}, not {value}")


def _shown(declared: Setting, value: Any) -> str:
    return "what was given" if declared.is_secret else repr(value)
