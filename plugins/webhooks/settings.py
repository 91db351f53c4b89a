"""The settings of the webhooks plugin, the section [plugins.webhooks]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leveret.conf.declare import MiB, WrongValue, setting, size
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy

__all__ = ["WebhooksSettings"]


def _check_networks(networks: tuple[str, ...]) -> None:
    try:
        AddressPolicy(networks)
    except ValueError as error:
        raise WrongValue(f"must be networks, written 10.1.0.0/16: {error}") from None


def _check_vhosts_networks(networks: Mapping[str, tuple[str, ...]]) -> None:
    for each in networks.values():
        _check_networks(each)


@dataclass(frozen=True, slots=True)
class WebhooksSettings:
    """Webhooks out: messages of a queue as signed HTTP requests."""

    allowed_networks: tuple[str, ...] = setting(
        (), "private networks that webhooks may reach, written 10.1.0.0/16", check=_check_networks
    )
    vhost_allowed_networks: Mapping[str, tuple[str, ...]] = setting(
        {}, "further ones, by virtual host", check=_check_vhosts_networks
    )
    https_only: bool = setting(False, "webhooks must be https")
    ca_file: str = setting("", "authorities to trust instead of the system's, PEM")
    max_bytes: int = size(64 * MiB, "bodies held in memory per subscription", minimum=1)
