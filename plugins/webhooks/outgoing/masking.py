"""The value of a webhook's parameter with its secrets, as it is stored, and with masks instead, as it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.plugins.webhooks.masking import MASK, mask_members, mask_secrets, restore_member, restore_secrets
from leveret.plugins.webhooks.outgoing.credentials import SHOWN
from leveret.plugins.webhooks.standard_webhooks import new_secret

__all__ = ["masked", "normalized", "without"]


def normalized(value: Any, previous: Any = None) -> dict[str, Any]:
    """The value to store: masked members are replaced by their previous values, and a secret is generated unless `secrets` is given.

    Raise InvalidArgument.
    """
    if not isinstance(value, Mapping):
        raise InvalidArgument("a webhook must be an object")
    kept = dict(value)
    old = previous if isinstance(previous, Mapping) else {}
    for where in ("headers", "auth", "client_certificate"):
        given = kept.get(where)
        if isinstance(given, Mapping):
            before = old.get(where)
            kept[where] = {name: restore_member(one, before, name, where) for name, one in given.items()}
    if kept.get("secrets") is None:
        kept["secrets"] = old.get("secrets") or [new_secret()]
    elif isinstance(kept["secrets"], list):
        kept["secrets"] = restore_secrets(kept["secrets"], old.get("secrets"), "secrets")
    return kept


def masked(value: Any) -> Any:
    """The value for answers, events and logs: without secrets, credentials and values of headers."""
    if not isinstance(value, Mapping):
        return value
    shown = {
        "headers": mask_members,
        "auth": _credentials,
        "client_certificate": _credentials,
        "secrets": mask_secrets,
    }
    return {name: shown[name](one) if name in shown else one for name, one in value.items()}


def _credentials(value: Any) -> Any:
    return mask_members(value, SHOWN)


def without(hidden: Sequence[str], text: str) -> str:
    """A text from an endpoint, with the secrets that it may have sent back replaced by the mask."""
    for one in hidden:
        text = text.replace(one, MASK)
    return text
