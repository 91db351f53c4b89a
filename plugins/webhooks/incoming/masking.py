"""The value of a source's parameter with its secrets, as it is stored, and with masks instead, as it is shown."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.plugins.webhooks.incoming.verification import GENERATED
from leveret.plugins.webhooks.masking import MASK, mask_secrets, restore_member, restore_secrets
from leveret.plugins.webhooks.standard_webhooks import new_secret

__all__ = ["masked", "normalized"]


def normalized(value: Any, previous: Any = None) -> dict[str, Any]:
    """The value to store: masked secrets are replaced by their previous values, and missing ones generated. Raise InvalidArgument."""
    if not isinstance(value, Mapping):
        raise InvalidArgument("a webhook source must be an object")
    kept = dict(value)
    old = previous if isinstance(previous, Mapping) else {}
    challenge = kept.get("challenge")
    if isinstance(challenge, Mapping) and "token" in challenge:
        token = restore_member(challenge["token"], old.get("challenge"), "token", "challenge")
        kept["challenge"] = {**challenge, "token": token}
    verification = kept.get("verification")
    if isinstance(verification, Mapping):
        kept["verification"] = _with_secrets(verification, old.get("verification"))
    return kept


def _with_secrets(verification: Mapping[str, Any], previous: Any) -> dict[str, Any]:
    before = previous if isinstance(previous, Mapping) else {}
    old = before.get("secrets")
    given, kind = verification.get("secrets"), verification.get("type")
    kept = dict(verification)
    if isinstance(given, list):
        if MASK in given[len(old) if isinstance(old, list) else 0 :]:
            raise InvalidArgument("verification.secrets are masked, and there are no earlier values")
        kept["secrets"] = restore_secrets(given, old, "verification.secrets")
    elif given is None and before.get("type") == kind and isinstance(old, list) and old:
        kept["secrets"] = old
    elif given is None and kind in GENERATED:
        kept["secrets"] = [new_secret() if kind == "standard" else secrets.token_urlsafe(32)]
    return kept


def masked(value: Any) -> Any:
    """The value for answers, events and logs: without secrets."""
    if not isinstance(value, Mapping):
        return value
    shown = dict(value)
    verification, challenge = shown.get("verification"), shown.get("challenge")
    if isinstance(verification, Mapping) and "secrets" in verification:
        shown["verification"] = {**verification, "secrets": mask_secrets(verification["secrets"])}
    if isinstance(challenge, Mapping) and "token" in challenge:
        shown["challenge"] = {**challenge, "token": MASK}
    return shown
