"""Records of the durable topology in the store.

The key of a record is its kind and a hash of the names that identify the object, because names may be longer than keys of the store.
The value is a field table with all properties, names included, in which arguments keep their field types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from leveret.core.errors import InvalidArgument
from leveret.core.fields import FieldError, decode_table, encode_table

if TYPE_CHECKING:
    from leveret.core.exchange import Binding, Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.store.base import Store
__all__ = [
    "check_storable", "delete_binding", "delete_exchange", "delete_parameter", "delete_policy", "delete_queue",
    "delete_vhost", "read", "save_binding", "save_exchange", "save_parameter", "save_policy", "save_queue",
    "save_vhost",
]  # fmt: skip


def _key(kind: str, *names: str | bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=24)
    for name in names:
        raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return f"topology/{kind}/".encode() + digest.digest()


def read(store: Store, kind: str) -> Iterator[dict[str, Any]]:
    """All records of a kind: "vhost", "exchange", "queue", "binding", "policy" or "parameter"."""
    for _, value in list(store.definitions(f"topology/{kind}/".encode())):
        record = decode_table(value)[0]
        for key, item in record.items():
            if isinstance(item, bytes):  # a name that is not valid UTF-8
                record[key] = item.decode("utf-8", "surrogateescape")
        yield record


def check_storable(thing: str, arguments: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for arguments that a field table cannot hold. thing: describes the object, for the error."""
    try:
        encode_table(arguments)
    except FieldError as error:
        raise InvalidArgument(f"invalid arguments for {thing}: {error}") from error


# -- virtual hosts


class StoredVhost(Protocol):
    """The properties of a virtual host that are stored."""

    name: str
    description: str
    tags: tuple[str, ...]
    default_queue_type: str
    limits: dict[str, int]
    is_protected: bool


def save_vhost(store: Store, vhost: StoredVhost) -> None:
    store.put_definition(_key("vhost", vhost.name), encode_table({
        "name": vhost.name, "description": vhost.description, "tags": list(vhost.tags),
        "default_queue_type": vhost.default_queue_type, "limits": dict(vhost.limits),
        "protected": vhost.is_protected,
    }))  # fmt: skip


def delete_vhost(store: Store, name: str) -> None:
    """Delete the record of the virtual host itself. Records of its content are deleted before."""
    store.delete_definition(_key("vhost", name))


# -- exchanges


def save_exchange(store: Store, exchange: Exchange) -> None:
    store.put_definition(
        _key("exchange", exchange.vhost.name, exchange.name),
        encode_table({
            "vhost": exchange.vhost.name, "name": exchange.name, "type": exchange.type,
            "auto_delete": exchange.is_auto_delete, "internal": exchange.is_internal,
            "arguments": exchange.arguments,
        }),
    )  # fmt: skip


def delete_exchange(store: Store, exchange: Exchange) -> None:
    store.delete_definition(_key("exchange", exchange.vhost.name, exchange.name))


# -- queues


def save_queue(store: Store, queue: Queue) -> None:
    """The record contains the ids of the queue's logs, so these must exist."""
    store.put_definition(
        _key("queue", queue.vhost.name, queue.name),
        encode_table({
            "vhost": queue.vhost.name, "name": queue.name, "type": queue.type,
            "auto_delete": queue.is_auto_delete, "arguments": queue.arguments, "log_ids": list(queue.log_ids),
        }),
    )  # fmt: skip


def delete_queue(store: Store, queue: Queue) -> None:
    store.delete_definition(_key("queue", queue.vhost.name, queue.name))


# -- bindings


def _binding_key(source: Exchange, binding: Binding) -> bytes:
    destination = binding.destination
    arguments = encode_table(dict(sorted(binding.arguments.items())))
    return _key(
        "binding",
        source.vhost.name,
        source.name,
        destination.kind,
        destination.name,
        binding.routing_key,
        arguments,
    )


def save_binding(store: Store, source: Exchange, binding: Binding) -> None:
    store.put_definition(
        _binding_key(source, binding),
        encode_table({
            "vhost": source.vhost.name, "source": source.name, "kind": binding.destination.kind,
            "destination": binding.destination.name, "routing_key": binding.routing_key,
            "arguments": binding.arguments,
        }),
    )  # fmt: skip


def delete_binding(store: Store, source: Exchange, binding: Binding) -> None:
    store.delete_definition(_binding_key(source, binding))


# -- policies and parameters, whose values are stored as JSON


class StoredPolicy(Protocol):
    """The properties of a policy that are stored. definition: JSON values."""

    @property
    def vhost(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def apply_to(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def is_operator_policy(self) -> bool: ...
    @property
    def definition(self) -> Mapping[str, Any]: ...


def save_policy(store: Store, policy: StoredPolicy) -> None:
    store.put_definition(
        _key("policy", policy.vhost, policy.name, "operator" if policy.is_operator_policy else ""),
        encode_table({
            "vhost": policy.vhost, "name": policy.name, "pattern": policy.pattern, "apply_to": policy.apply_to,
            "priority": policy.priority, "operators": policy.is_operator_policy,
            "definition": json.dumps(dict(policy.definition)),
        }),
    )  # fmt: skip


def delete_policy(store: Store, policy: StoredPolicy) -> None:
    store.delete_definition(
        _key("policy", policy.vhost, policy.name, "operator" if policy.is_operator_policy else "")
    )


def save_parameter(store: Store, vhost: str, component: str, name: str, value: Any) -> None:
    """value: a JSON value. Global parameters have the virtual host "" and the component ""."""
    store.put_definition(
        _key("parameter", vhost, component, name),
        encode_table({"vhost": vhost, "component": component, "name": name, "value": json.dumps(value)}),
    )


def delete_parameter(store: Store, vhost: str, component: str, name: str) -> None:
    store.delete_definition(_key("parameter", vhost, component, name))
