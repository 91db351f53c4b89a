"""What the checks of an import share: the broker, what the document will create, the steps to do, and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.core.definitions.import_items import Report, read_text
from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.vhost import PREDECLARED

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
    from leveret.core.exchange import ExchangeType
    from leveret.core.json_object import JsonObject
    from leveret.core.vhost import Vhost
__all__ = ["ImportContext"]


class ImportContext:
    """A check reads one item, raises InvalidArgument or AuthDataError for an invalid one, and adds the step that applies it.

    vhost     the virtual host that the document is for; None: each item names its own
    importer  the user who gets all permissions in virtual hosts that are created, or None
    users, vhosts, routers, queues
              users and virtual hosts that exist or will exist; exchanges (with their types) and queues that the document declares,
              by virtual host and name
    """

    def __init__(self, broker: DefinitionsTarget, vhost: str | None, importer: str | None) -> None:
        self.broker = broker
        self.vhost = vhost
        self.importer = importer
        self.report = Report()
        self.steps: list[Callable[[], object]] = []
        self.users = {user.name for user in broker.users.list_users()}
        self.vhosts = set(broker.vhosts)
        self.routers: dict[tuple[str, str], ExchangeType] = {}
        self.queues: set[tuple[str, str]] = set()

    def add_step(self, step: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Call this function with these arguments when the document has been checked. It may raise NotFound or NoSuchUser."""
        self.steps.append(lambda: step(*arguments, **named))

    def warn(self, text: str) -> None:
        """Add a sentence to the report's warnings."""
        self.report.warnings.append(text)

    def find_vhost(self, name: str) -> Vhost:
        """For steps: the virtual host. Raise NotFound if it has been deleted since the check."""
        found = self.broker.vhosts.get(name)
        if found is None:
            raise NotFound(f"virtual host '{name}'")
        return found

    def vhost_of(self, item: JsonObject) -> str:
        """The name of the virtual host that an item belongs to. Raise InvalidArgument."""
        if self.vhost is not None:
            return self.vhost
        if "vhost" not in item:
            raise InvalidArgument(
                "no_such_vhost: vhost is missing; definitions of a single virtual host are imported into one"
            )
        name: str = read_text(item, "vhost")
        if name not in self.vhosts:
            raise InvalidArgument(f"no_such_vhost: there is no virtual host '{name}'")
        return name

    def router(self, vhost: str, name: str) -> ExchangeType | None:
        """The type's object of an exchange that exists or will exist; None for any other name."""
        found = self.routers.get((vhost, name))
        if found is not None:
            return found
        host = self.broker.vhosts.get(vhost)
        if host is not None:
            exchange = host.exchanges.get(name)
            return None if exchange is None else exchange.router
        type = dict(PREDECLARED).get(name)
        return None if type is None else self.broker.registry.exchange_type(type)({})

    def has_queue(self, vhost: str, name: str) -> bool:
        """The queue exists or will exist."""
        host = self.broker.vhosts.get(vhost)
        return (vhost, name) in self.queues or (host is not None and name in host.queues)
