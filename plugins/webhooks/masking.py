"""Secrets in parameters: masked where a parameter is shown, and restored where a masked value is set again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.core.vhost import ParameterComponent, Vhost

__all__ = ["MASK", "ParameterOwner", "mask_members", "mask_secrets", "restore_member", "restore_secrets"]

MASK = "********"
"""Shown instead of a secret; set again, it stands for the value that was there before."""


def mask_members(value: Any, shown: Collection[str] = ()) -> Any:
    """An object with its values masked, except those of the members `shown`. Anything else is returned as it is."""
    if not isinstance(value, Mapping):
        return value
    return {name: one if name in shown else MASK for name, one in value.items()}


def mask_secrets(value: Any) -> Any:
    """A list of secrets, masked; a secret is a string or an object {"secret": string, ...}. Anything else is returned as it is."""
    if not isinstance(value, list):
        return value
    return [{**one, "secret": MASK} if isinstance(one, Mapping) else MASK for one in value]


def restore_member(value: Any, before: Any, name: str, where: str) -> Any:
    """The value of a member, or the earlier value if it is masked. before: the object as it was. Raise InvalidArgument."""
    if value != MASK:
        return value
    if isinstance(before, Mapping) and name in before:
        return before[name]
    raise InvalidArgument(f"{where}.{name} is masked, and there is no earlier value")


def restore_secrets(value: list[Any], before: Any, where: str) -> list[Any]:
    """A list of secrets; masked ones are replaced by those at the same place in the earlier list. Raise InvalidArgument."""
    return [_restored(one, before, index, where) for index, one in enumerate(value)]


def _restored(value: Any, before: Any, index: int, where: str) -> Any:
    if (value.get("secret") if isinstance(value, Mapping) else value) != MASK:
        return value
    if isinstance(before, list) and index < len(before):
        return before[index]
    raise InvalidArgument(f"{where}[{index}] is masked, and there is no earlier value")


class ParameterOwner:
    """Owns the parameters of a component, whether the plugin is running or not.

    While it is running, it checks and masks them. While it is disabled, secrets stay masked, and nothing else is checked.

    running             returns the plugin's owner of the component; None while the plugin is not running
    normalized, masked  the functions of the component, from outgoing/masking.py or incoming/masking.py
    """

    def __init__(
        self,
        component: str,
        running: Callable[[], ParameterComponent | None],
        normalized: Callable[[Any, Any], Any],
        masked: Callable[[Any], Any],
    ) -> None:
        self._component = component
        self._running = running
        self._normalized = normalized
        self.masked = masked

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        """The value to store. Raise InvalidArgument.

        A plugin that is enabled later ignores the invalid parameters that were set before.
        """
        running = self._running()
        if running is not None:
            return running.check(vhost, name, value)
        if not isinstance(value, Mapping):
            return value
        return self._normalized(value, vhost.parameters.get((self._component, name)))
