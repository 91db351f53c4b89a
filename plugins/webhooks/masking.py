"""A subscription as it is kept and as it may be shown: secrets go in, and do not come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.plugins.webhooks.credentials import SHOWN
from leveret.plugins.webhooks.signing import new_secret

__all__ = ["MASK", "masked", "normalized", "without"]

MASK = "********"


def normalized(value: Any, previous: Any = None) -> dict[str, Any]:
    """As it is kept: masked members have their previous values again, and there is a secret unless none is wanted.

    Raise InvalidArgument.
    """
    if not isinstance(value, Mapping):
        raise InvalidArgument("a webhook must be an object")
    kept = dict(value)
    old = previous if isinstance(previous, Mapping) else {}
    for name in ("headers", "auth", "client_certificate"):
        given = kept.get(name)
        if isinstance(given, Mapping):
            before = old.get(name)
            kept[name] = {key: _unmasked(one, before, key, name) for key, one in given.items()}
    if "secrets" not in kept or kept["secrets"] is None:
        kept["secrets"] = old.get("secrets") or [new_secret()]
    elif isinstance(kept["secrets"], list):
        before = old.get("secrets")
        kept["secrets"] = [_unmasked_secret(one, before, index) for index, one in enumerate(kept["secrets"])]
    return kept


def _unmasked(value: Any, before: Any, key: str, where: str) -> Any:
    if value != MASK:
        return value
    if isinstance(before, Mapping) and key in before:
        return before[key]
    raise InvalidArgument(f"{where}.{key} is masked, and there is no earlier value")


def _unmasked_secret(value: Any, before: Any, index: int) -> Any:
    if (value.get("secret") if isinstance(value, Mapping) else value) != MASK:
        return value
    if isinstance(before, list) and index < len(before):
        return before[index]
    raise InvalidArgument(f"secrets[{index}] is masked, and there is no earlier value")


def masked(value: Any) -> Any:
    """For answers, events and logs: without secrets, credentials and values of headers."""
    if not isinstance(value, Mapping):
        return value
    shown = dict(value)
    headers = shown.get("headers")
    if isinstance(headers, Mapping):
        shown["headers"] = dict.fromkeys(headers, MASK)
    for name in ("auth", "client_certificate"):
        credentials = shown.get(name)
        if isinstance(credentials, Mapping):
            shown[name] = {key: one if key in SHOWN else MASK for key, one in credentials.items()}
    secrets = shown.get("secrets")
    if isinstance(secrets, list):
        shown["secrets"] = [{**one, "secret": MASK} if isinstance(one, Mapping) else MASK for one in secrets]
    return shown


def without(hidden: Sequence[str], text: str) -> str:
    """What an endpoint said, without what it may have sent back of our secrets."""
    for one in hidden:
        text = text.replace(one, MASK)
    return text
