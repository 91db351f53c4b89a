"""What an import of definitions will do: every item is checked first, and becomes a step; then all steps are done.

Both in slices: others have their turns in between, and may delete what a step needs. Such steps are left out, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leveret.auth.permissions import check_pattern
from leveret.auth.users import LIMITS as USER_LIMITS
from leveret.auth.users import AuthDataError, NoSuchUser, checked_name, checked_tags, hashed
from leveret.core import policy_keys
from leveret.core.definitions import records
from leveret.core.definitions.import_items import (
    DefinitionsError,
    Item,
    Named,
    Report,
    called,
    check_hash,
    limits_of,
)
from leveret.core.equivalence import describe_resource
from leveret.core.errors import BrokerError, ForeignArgument, InvalidArgument, NotFound, UnknownPolicyKey
from leveret.core.exchange import Binding, Exchange, ExchangeType
from leveret.core.policy_keys import check_apply_to, check_definition, without_effect
from leveret.core.queue.arguments import QUEUE_TYPES, check_queue_arguments
from leveret.core.vhost import PREDECLARED, VHOST_LIMITS

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
    from leveret.core.vhost import Vhost
__all__ = ["LIMITS", "OPERATOR_POLICY", "Plan"]

LIMITS, OPERATOR_POLICY = "vhost-limits", "operator_policy"
"""Components of parameters that are more than parameters."""
IN_VHOST = ("parameters", "policies", "exchanges", "queues", "bindings")
SECTIONS = ("users", "vhosts", "permissions", "topic_permissions", "global_parameters", *IN_VHOST)
"""In the order of the steps: what refers to others comes after them."""
RESERVED = "amq."
SLICE = 64  # items checked, or steps done, in one turn: some milliseconds
MISSING: Any = object()


class Plan:
    """Made of a document. `check` looks at all of it, and raises DefinitionsError; then `apply` does it.

    vhost: of that one alone (NotFound if it is not there). user: gets all permissions in new virtual hosts. Both methods are
    iterators that stop after each slice.
    """

    def __init__(
        self, broker: DefinitionsTarget, document: Any, vhost: str | None, user: str | None = None
    ) -> None:
        self.report = Report()
        self._broker = broker
        self._vhost = vhost
        self._user_name = user
        self._steps: list[Callable[[], object]] = []
        self._users = {user.name for user in broker.users.list_users()}
        self._vhosts = set(broker.vhosts)
        self._routers: dict[tuple[str, str], ExchangeType] = {}
        self._queues: set[tuple[str, str]] = set()
        if vhost is not None and vhost not in broker.vhosts:
            raise NotFound(f"Virtual host '{vhost}' does not exist")
        if not isinstance(document, Mapping):
            raise DefinitionsError("definitions must be a JSON object")
        self._sections: list[tuple[str, list[Any]]] = []
        for section in IN_VHOST if vhost is not None else SECTIONS:
            items = document.get(section)
            if items is None:
                continue
            if not isinstance(items, list):
                raise DefinitionsError(f"{section} must be a list")
            self._sections.append((section, items))

    def check(self) -> Iterator[None]:
        while self._sections:
            yield from self._take(*self._sections.pop(0))

    def _take(self, section: str, items: list[Any]) -> Iterator[None]:
        check = CHECKS[section]
        before = len(self._steps)
        for index, values in enumerate(items):
            if index % SLICE == SLICE - 1:
                yield
            try:
                check(self, Item(values))
            except (BrokerError, AuthDataError) as error:
                raise DefinitionsError(f"{section}[{index}]{called(values)}: {error}") from error
        if items:
            self.report.counts[section] = len(self._steps) - before

    def apply(self) -> Iterator[None]:
        # A step that is done is let go of: together with this plan they are a knot that only the collector could undo.
        self._steps.reverse()
        while self._steps:
            if len(self._steps) % SLICE == 0:
                yield
            try:
                self._steps.pop()()
            except (NotFound, NoSuchUser) as error:
                self._warn(f"left out, for it was deleted meanwhile: {error}")

    def _then(self, step: Callable[..., object], *arguments: Any, **named: Any) -> None:
        self._steps.append(lambda: step(*arguments, **named))

    def _warn(self, text: str) -> None:
        self.report.warnings.append(text)

    def _host(self, name: str) -> Vhost:
        """Of a step. Raise NotFound."""
        found = self._broker.vhosts.get(name)
        if found is None:
            raise NotFound(f"virtual host '{name}'")
        return found

    # -- users and virtual hosts

    def _user(self, item: Item) -> None:
        name = checked_name("user", item.text("name"))
        tags = checked_tags(item.words("tags") or ())
        limits = limits_of(item.get("limits"), USER_LIMITS) if "limits" in item else None
        known = item.text("password_hash", None), item.text("hashing_algorithm", None)
        if known[0] is None and "password" in item:
            known = hashed(item.text("password")), None
        if known[0] is not None:
            check_hash(*known)
        self._users.add(name)
        self._then(self._put_user, name, known, tags, limits)

    def _put_user(
        self,
        name: str,
        known: tuple[str | None, str | None],
        tags: tuple[str, ...],
        limits: dict[str, int] | None,
    ) -> None:
        """A user who is there keeps what the document does not say."""
        users = self._broker.users
        try:
            existing = users.user(name)
        except NoSuchUser:
            existing = None
        password_hash, algorithm = known
        if password_hash is None and existing is not None:
            password_hash, algorithm = existing.password_hash, existing.hashing_algorithm
        if limits is None:
            limits = dict(existing.limits) if existing is not None else {}
        if existing is not None and (
            (existing.password_hash, existing.tags, existing.limits) == (password_hash, tags, limits)
        ):
            return  # nobody need hear of it
        users.put_user(
            name, password_hash=password_hash or "", hashing_algorithm=algorithm, tags=tags, limits=limits
        )

    def _vhost_item(self, item: Item) -> None:
        name = checked_name("virtual host", item.name())
        if not name:
            raise InvalidArgument("a virtual host needs a name")
        given = Item(item.get("metadata", {}))
        metadata: dict[str, Any] = {}
        for source in (item, given):
            if "description" in source:
                metadata["description"] = source.text("description")
            if (tags := source.words("tags")) is not None:
                metadata["tags"] = tags
            queue_type = source.text("default_queue_type", "undefined")
            if queue_type in QUEUE_TYPES:
                metadata["default_queue_type"] = queue_type
            elif queue_type != "undefined":
                self._warn(f"vhost '{name}': there is no queue type '{queue_type}' to be its default")
        if given.flag("protected_from_deletion"):
            metadata["is_protected"] = True
        limits = limits_of(item.get("limits", {}), VHOST_LIMITS)
        self._vhosts.add(name)
        self._then(self._put_vhost, name, metadata, limits)

    def _put_vhost(self, name: str, metadata: dict[str, Any], limits: dict[str, int]) -> None:
        existing = self._broker.vhosts.get(name)
        if existing is None:
            self._broker.add_vhost(name, **metadata)
            self._broker.grant_all(self._user_name, name)
        elif metadata:
            existing.update(**metadata)
        if limits:
            self._set_limits(name, limits)

    def _set_limits(self, vhost: str, limits: dict[str, int]) -> None:
        self._host(vhost).set_limits(limits)

    # -- permissions

    def _permission(self, item: Item) -> None:
        row = self._row(item, "configure", "write", "read")
        self._then(self._broker.users.set_permissions, *row)

    def _topic_permission(self, item: Item) -> None:
        user, vhost, write, read = self._row(item, "write", "read")
        exchange = checked_name("exchange", item.name("exchange"))
        self._then(self._broker.users.set_topic_permissions, user, vhost, exchange, write, read)

    def _row(self, item: Item, *names: str) -> list[str]:
        user, vhost = item.text("user"), self._vhost_of(item)
        if user not in self._users:
            raise InvalidArgument(f"no_such_user: there is no user '{user}'")
        patterns = [item.text(name) for name in names]
        for pattern in patterns:
            if (problem := check_pattern(pattern)) is not None:
                raise InvalidArgument(problem)
        return [user, vhost, *patterns]

    def _vhost_of(self, item: Item) -> str:
        if self._vhost is not None:
            return self._vhost
        if "vhost" not in item:
            raise InvalidArgument(
                "no_such_vhost: vhost is missing; definitions of a single virtual host are imported into one"
            )
        name = item.text("vhost")
        if name not in self._vhosts:
            raise InvalidArgument(f"no_such_vhost: there is no virtual host '{name}'")
        return name

    # -- parameters and policies

    def _global_parameter(self, item: Item) -> None:
        name, value = item.text("name"), item.value("value")
        if not name.startswith("internal"):  # of the node that exported it
            self._then(self._broker.set_parameter, name, value)

    def _parameter(self, item: Item) -> None:
        vhost, component, name = self._vhost_of(item), item.text("component"), item.text("name")
        value = item.value("value")
        if component == OPERATOR_POLICY:
            self._set_policy(vhost, name, Item(value), operator=True)
            return
        if component == LIMITS:
            self._then(self._set_limits, vhost, limits_of(value, VHOST_LIMITS))
            return
        owner, host = self._broker.components.get(component), self._broker.vhosts.get(vhost)
        if owner is None:
            self._warn(f"parameter '{name}' in vhost '{vhost}': component '{component}' is not there")
        elif host is not None:
            owner.check(host, name, value)

        def put() -> None:
            found = self._host(vhost)
            if found.parameters.get((component, name), MISSING) != value:
                found.set_parameter(component, name, value)

        self._then(put)

    def _policy(self, item: Item) -> None:
        self._set_policy(self._vhost_of(item), item.text("name"), item, operator=False)

    def _set_policy(self, vhost: str, name: str, item: Item, *, operator: bool) -> None:
        pattern, apply_to = item.get("pattern"), item.get("apply-to", "all")
        definition, priority = item.get("definition"), item.get("priority", 0)
        policy_keys.check_pattern(pattern)
        check_apply_to(apply_to)
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) >> 63:
            raise InvalidArgument("priority should be a number")
        try:
            check_definition(definition, is_operator_policy=operator)
        except UnknownPolicyKey as error:
            self._warn(f"policy '{name}' in vhost '{vhost}': {error}: they have no effect")
        else:
            if ignored := without_effect(definition):
                self._warn(f"policy '{name}' in vhost '{vhost}': {', '.join(ignored)}: they have no effect")
        wanted: dict[str, Any] = {
            "pattern": pattern, "definition": definition, "apply_to": apply_to, "priority": priority,
        }  # fmt: skip

        def put() -> None:
            policies = self._broker.policies
            self._host(vhost)
            found = policies.get(vhost, name, operator=operator)
            if found is None or any(getattr(found, key) != value for key, value in wanted.items()):
                policies.set(vhost, name, **wanted, operator=operator, is_import=True)

        self._then(put)

    # -- exchanges, queues, bindings: those that are there stay as they are

    def _exchange(self, item: Item) -> None:
        vhost, name = self._vhost_of(item), item.name()
        if not name or name.startswith(RESERVED) or self._router(vhost, name) is not None:
            return
        type, arguments = item.text("type"), item.table()
        thing = describe_resource("exchange", name, vhost)
        if not isinstance(arguments.get("alternate-exchange", ""), str):
            raise InvalidArgument(f"invalid type for arg 'alternate-exchange' in {thing}")
        router = self._broker.registry.exchange_type(type)(arguments)
        records.check_storable(thing, arguments)
        self._routers[vhost, name] = router
        facts: dict[str, Any] = {
            "durable": item.flag("durable", True),
            "auto_delete": item.flag("auto_delete"),
            "internal": item.flag("internal"),
            "arguments": arguments,
        }

        def declare() -> None:
            host = self._host(vhost)
            if name not in host.exchanges:
                host.add_exchange(Exchange(host, name, type, router, **facts))

        self._then(declare)

    def _router(self, vhost: str, name: str) -> ExchangeType | None:
        """Of an exchange that is there, or will be."""
        found = self._routers.get((vhost, name))
        if found is not None:
            return found
        host = self._broker.vhosts.get(vhost)
        if host is not None:
            exchange = host.exchanges.get(name)
            return None if exchange is None else exchange.router
        type = dict(PREDECLARED).get(name)
        return None if type is None else self._broker.registry.exchange_type(type)({})

    def _queue(self, item: Item) -> None:
        vhost, name = self._vhost_of(item), item.name()
        if not name or name.startswith(RESERVED) or self._has_queue(vhost, name):
            return
        durable, auto_delete = item.flag("durable", True), item.flag("auto_delete")
        arguments = item.table()
        thing = describe_resource("queue", name, vhost)
        given = arguments.get("x-queue-type", item.text("type", "classic"))
        if given == "stream":
            self._warn(f"{thing} is left out: there are no streams")
            return
        if given == "quorum":
            arguments["x-queue-type"] = given  # a client that declares it says so
            if auto_delete or not durable:
                what = "auto-delete" if auto_delete else "non-durable"
                raise InvalidArgument(f"invalid property '{what}' for {thing}")
        queue_type = given if given in QUEUE_TYPES else "classic"
        try:
            check_queue_arguments(thing, queue_type, arguments)
        except ForeignArgument as error:
            self._warn(f"{error}: it has no effect")
        records.check_storable(thing, arguments)
        self._queues.add((vhost, name))

        def declare() -> None:
            host = self._host(vhost)
            if name not in host.queues:
                host.add_queue(
                    name,
                    durable=durable,
                    exclusive=False,
                    auto_delete=auto_delete,
                    arguments=arguments,
                    type=queue_type,
                )

        self._then(declare)

    def _has_queue(self, vhost: str, name: str) -> bool:
        host = self._broker.vhosts.get(vhost)
        return (vhost, name) in self._queues or (host is not None and name in host.queues)

    def _binding(self, item: Item) -> None:
        vhost, source, destination = self._vhost_of(item), item.name("source"), item.name("destination")
        kind, key, arguments = item.text("destination_type"), item.name("routing_key"), item.table()
        if not source:
            return  # the default exchange's are implicit
        if kind not in ("queue", "exchange"):
            raise InvalidArgument("destination_type must be queue or exchange")
        router = self._router(vhost, source)
        is_there = self._has_queue if kind == "queue" else lambda *names: self._router(*names) is not None
        if router is None or not is_there(vhost, destination):
            self._warn(
                f"binding from exchange '{source}' to {kind} '{destination}' in vhost '{vhost}' is left out: "
                "one of them is not there"
            )
            return
        router.validate(Binding(Named(destination, kind), key, arguments))
        records.check_storable(f"binding from {describe_resource('exchange', source, vhost)}", arguments)

        def bind() -> None:
            host = self._host(vhost)
            target = (host.queues if kind == "queue" else host.exchanges).get(destination)
            exchange = host.exchanges.get(source)
            if target is None or exchange is None:
                raise NotFound(
                    f"binding from exchange '{source}' to {kind} '{destination}' in vhost '{vhost}'"
                )
            host.bind(exchange, Binding(target, key, arguments))

        self._then(bind)


CHECKS: Mapping[str, Callable[[Plan, Item], None]] = {
    "users": Plan._user,
    "vhosts": Plan._vhost_item,
    "permissions": Plan._permission,
    "topic_permissions": Plan._topic_permission,
    "global_parameters": Plan._global_parameter,
    "parameters": Plan._parameter,
    "policies": Plan._policy,
    "exchanges": Plan._exchange,
    "queues": Plan._queue,
    "bindings": Plan._binding,
}
