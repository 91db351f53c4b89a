"""What definitions are read from and written to."""

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
    """Something with virtual hosts by name."""

    vhosts: dict[str, Vhost]


class DefinitionsTarget(HasVhosts, Protocol):
    """The broker, as definitions are recovered into it, imported into it and exported from it.

    parameters  global runtime parameters, as JSON has them
    components  who checks the runtime parameters of virtual hosts, by component
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
