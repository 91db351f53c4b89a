"""The broker as the definitions package sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from leveret.auth.internal import InternalBackend
    from leveret.conf.settings import Settings
    from leveret.core.dispatcher import Dispatcher
    from leveret.core.policy import Policies
    from leveret.core.registry import Registry
    from leveret.core.store.base import Store
    from leveret.core.vhost import ParameterComponent, Services, Vhost
__all__ = ["DefinitionsTarget", "HasVhosts"]


class HasVhosts(Protocol):
    """An object with virtual hosts, by their names."""

    vhosts: dict[str, Vhost]


class DefinitionsTarget(HasVhosts, Protocol):
    """The part of the broker that recovery, import and export need.

    parameters  global runtime parameters by name, as JSON values
    components  the owners of virtual hosts' runtime parameters, which check them, by component
    """

    node_name: str
    settings: Settings
    store: Store
    registry: Registry
    dispatcher: Dispatcher
    users: InternalBackend
    policies: Policies
    parameters: dict[str, Any]
    components: dict[str, ParameterComponent]
    vhost_services: Services

    def add_vhost(self, name: str, **metadata: Any) -> Vhost: ...
    def grant_all(self, username: str | None, vhost_name: str) -> None: ...
    def set_parameter(self, name: str, value: Any) -> None: ...
