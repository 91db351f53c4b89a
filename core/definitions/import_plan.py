"""The plan of an import: all items of a document are checked first, and each becomes a step; then all steps are done.

Checking and applying are iterators over slices, so that other tasks run in between. These may delete what a step needs: such a step
is left out, with a warning. The checks stand in import_access.py, import_policies.py and import_topology.py, by section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leveret.auth.users import AuthDataError, NoSuchUser
from leveret.core.definitions import import_access, import_policies, import_topology
from leveret.core.definitions.import_context import ImportContext
from leveret.core.definitions.import_items import DefinitionsError, Report, describe_item, item_of
from leveret.core.errors import BrokerError, NotFound

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
    from leveret.core.json_object import JsonObject
__all__ = ["Plan"]

SLICE = 64  # items that are checked, or steps that are done, in one turn: some milliseconds

IN_VHOST: Mapping[str, Callable[[ImportContext, JsonObject], None]] = {
    "parameters": import_policies.check_parameter,
    "policies": import_policies.check_policy,
    "exchanges": import_topology.check_exchange,
    "queues": import_topology.check_queue,
    "bindings": import_topology.check_binding,
}
"""The sections of a virtual host and the check of their items, in the order of the steps: items come after those they refer to."""

SECTIONS: Mapping[str, Callable[[ImportContext, JsonObject], None]] = {
    "users": import_access.check_user,
    "vhosts": import_access.check_vhost,
    "permissions": import_access.check_permission,
    "topic_permissions": import_access.check_topic_permission,
    "global_parameters": import_policies.check_global_parameter,
    **IN_VHOST,
}


class Plan:
    """The plan of one document. Run `check` to its end first, and then `apply`; both yield after each slice.

    vhost: the virtual host that the document is for; None: each item names its own. user: gets all permissions in virtual hosts
    that are created. Raise NotFound for an unknown virtual host, DefinitionsError for a document that is not an object of lists.
    """

    def __init__(
        self, broker: DefinitionsTarget, document: Any, vhost: str | None, user: str | None = None
    ) -> None:
        if vhost is not None and vhost not in broker.vhosts:
            raise NotFound(f"Virtual host '{vhost}' does not exist")
        if not isinstance(document, Mapping):
            raise DefinitionsError("definitions must be a JSON object")
        self._checks = SECTIONS if vhost is None else IN_VHOST
        self._sections: list[tuple[str, list[Any]]] = []
        for section in self._checks:
            items = document.get(section)
            if items is None:
                continue
            if not isinstance(items, list):
                raise DefinitionsError(f"{section} must be a list")
            self._sections.append((section, items))
        self._context = ImportContext(broker, vhost, user)

    @property
    def report(self) -> Report:
        """The counts are complete after `check`, the warnings after `apply`."""
        return self._context.report

    def check(self) -> Iterator[None]:
        """Check all items. Nothing is changed. Raise DefinitionsError for the first invalid item."""
        while self._sections:
            yield from self._check_section(*self._sections.pop(0))

    def _check_section(self, section: str, items: list[Any]) -> Iterator[None]:
        check, context = self._checks[section], self._context
        before = len(context.steps)
        for index, values in enumerate(items):
            if index % SLICE == SLICE - 1:
                yield
            try:
                check(context, item_of(values))
            except (BrokerError, AuthDataError) as error:
                raise DefinitionsError(f"{section}[{index}]{describe_item(values)}: {error}") from error
        if items:
            context.report.counts[section] = len(context.steps) - before

    def apply(self) -> Iterator[None]:
        """Do all steps."""
        steps = self._context.steps
        steps.reverse()
        while steps:
            if len(steps) % SLICE == 0:
                yield
            try:
                # Steps refer to the context and the context to its steps. Taking each step out ends these reference cycles.
                steps.pop()()
            except (NotFound, NoSuchUser) as error:
                self._context.warn(
                    f"an item is left out, because what it needs was deleted during the import: {error}"
                )
