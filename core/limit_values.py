"""The check of limits' values, of virtual hosts and of users, in RabbitMQ's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument

__all__ = ["check_limit_values"]


def check_limit_values(limits: Mapping[str, Any]) -> None:
    """Raise InvalidArgument unless all values are integers of at most 31 bits. Negative limits do not limit."""
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >> 31:
            shown = "null" if value is None else erlang_term(value)
            raise InvalidArgument(f"{name} should be a number, actually was {shown}")
