"""Virtual hosts: created, changed, deleted, protected and traced."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leveret.auth.users import checked_name
from leveret.core.administration.names import check_name
from leveret.core.definitions.recovery import require_vhost
from leveret.core.errors import InvalidArgument, PreconditionFailed
from leveret.core.queue.arguments import QUEUE_TYPES

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["VhostMetadata", "add_vhost", "delete_vhost", "put_vhost", "set_protection", "set_tracing"]

TRACING = "tracing"
"""The plugin, and the service it offers while it runs."""


@dataclass(frozen=True, slots=True)
class VhostMetadata:
    """What is kept of a virtual host beside its name. None: the default for a new one, unchanged for an existing one."""

    description: str | None = None
    tags: tuple[str, ...] | None = None
    default_queue_type: str | None = None
    is_protected: bool | None = None


def add_vhost(
    broker: Broker, name: str, metadata: VhostMetadata = VhostMetadata(), *, creator: str | None = None
) -> bool:
    """Create a virtual host. An existing one is left as it is, and False returned, as by rabbitmqctl.

    creator: a user of the internal backend, who gets all permissions in it. Raise InvalidArgument, AuthDataError.
    """
    if not name:
        raise InvalidArgument("a virtual host needs a name")
    check_name("vhost", checked_name("virtual host", name))
    given = _checked(metadata)
    if name in broker.vhosts:
        return False
    broker.add_vhost(name, **given)
    if creator is not None:
        broker.grant_all(creator, name)
    return True


def put_vhost(
    broker: Broker, name: str, metadata: VhostMetadata = VhostMetadata(), *, creator: str | None = None
) -> bool:
    """Create a virtual host, or change what the metadata of an existing one names. Returns True for a new one.

    creator, errors: as `add_vhost`.
    """
    is_new = add_vhost(broker, name, metadata, creator=creator)
    if not is_new and (given := _checked(metadata)):
        broker.vhosts[name].update(**given)
    return is_new


def _checked(metadata: VhostMetadata) -> dict[str, Any]:
    given = {key: value for key, value in asdict(metadata).items() if value is not None}
    if given.get("default_queue_type", "classic") not in QUEUE_TYPES:
        raise InvalidArgument(f"{metadata.default_queue_type} is not a valid queue type")
    return given


def delete_vhost(broker: Broker, name: str) -> None:
    """Delete a virtual host with everything in it; its connections are closed.

    Raise NotFound; PreconditionFailed if it is protected.
    """
    broker.delete_vhost(name)


def set_protection(broker: Broker, name: str, *, is_protected: bool) -> None:
    """Protect a virtual host from deletion, or stop protecting it. Raise NotFound."""
    require_vhost(broker, name).update(is_protected=is_protected)


def set_tracing(broker: Broker, name: str, *, is_on: bool) -> None:
    """Copy every message of a virtual host to amq.rabbitmq.trace, or stop copying.

    Raise NotFound; PreconditionFailed while the plugin `tracing` is not running.
    """
    check_tracing(broker)
    tracer = broker.services[TRACING]
    (tracer.trace_on if is_on else tracer.trace_off)(name)


def check_tracing(broker: Broker) -> None:
    """Raise PreconditionFailed while the plugin `tracing` is not running."""
    if TRACING not in broker.services:
        raise PreconditionFailed(f"plugin '{TRACING}' is not running: enable it first")
