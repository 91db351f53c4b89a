"""What operators do to a running broker, at the level that the management API and `leveret ctl` share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from support.connections import connected
from support.in_process import InProcess, broker_in_process

from leveret.auth.users import AuthDataError, HashNotBase64, NoSuchUser, UserExists, WrongPassword, hashed
from leveret.core.administration import (
    connections,
    definitions,
    limits,
    node,
    parameters,
    permissions,
    policies,
    topology,
    users,
    vhosts,
)
from leveret.core.administration.policies import PolicyValue
from leveret.core.administration.users import UserPassword
from leveret.core.administration.vhosts import VhostMetadata
from leveret.core.broker import Broker
from leveret.core.definitions.import_items import DefinitionsError
from leveret.core.errors import InvalidArgument, NotFound, PreconditionFailed

VALUE = PolicyValue("^q", {"max-length": 3})


@pytest.fixture
async def server() -> AsyncIterator[InProcess]:
    async with broker_in_process() as server:
        yield server


@pytest.fixture
def broker(server: InProcess) -> Broker:
    return server.broker


class Component:
    def check(self, vhost: object, name: str, value: Any) -> Any:
        if value is None:
            raise InvalidArgument("nothing")
        return value

    def masked(self, value: Any) -> Any:
        return "***"


def heard(broker: Broker) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    broker.events.subscribe(lambda name, fields: events.append((name, dict(fields))))
    return events


# -- users


async def test_users(broker: Broker) -> None:
    users.add_user(broker, "u", "p")
    with pytest.raises(UserExists):
        users.add_user(broker, "u", "p")
    users.set_user_tags(broker, "u", ["monitoring"])
    users.authenticate_user(broker, "u", "p")
    users.change_password(broker, "u", "new")
    with pytest.raises(WrongPassword):
        users.authenticate_user(broker, "u", "p")
    users.clear_password(broker, "u")
    with pytest.raises(WrongPassword):
        users.authenticate_user(broker, "u", "new")
    users.delete_user(broker, "u")
    for missing in (users.delete_user, users.clear_password):
        with pytest.raises(NoSuchUser):
            missing(broker, "u")
    with pytest.raises(NoSuchUser):
        users.authenticate_user(broker, "u", "p")


async def test_a_user_is_put_with_a_password_or_its_hash_and_keeps_limits(broker: Broker) -> None:
    assert users.put_user(broker, "u", UserPassword("p"), ["management"])
    limits.set_user_limits(broker, "u", {"max-channels": 1})
    assert not users.put_user(broker, "u", UserPassword(hash=hashed("other")), [])
    users.authenticate_user(broker, "u", "other")
    user = broker.users.user("u")
    assert (user.tags, user.limits) == ((), {"max-channels": 1})
    assert not users.put_user(broker, "u", UserPassword(), ["a"])
    with pytest.raises(WrongPassword):
        users.authenticate_user(broker, "u", "other")


async def test_passwords_that_are_refused(broker: Broker) -> None:
    with pytest.raises(InvalidArgument, match="both_password_and_password_hash_are_provided"):
        users.put_user(broker, "u", UserPassword("p", "h"), [])
    with pytest.raises(HashNotBase64):
        users.put_user(broker, "u", UserPassword(hash="?"), [])
    with pytest.raises(AuthDataError, match="a salt of 4 bytes"):
        users.put_user(broker, "u", UserPassword(hash="AAAA"), [])
    assert users.find_user(broker, "u") is None
    assert "p" not in repr(UserPassword("p", "p")).partition("(")[2].replace("hashing_algorithm", "")


# -- permissions


async def test_permissions(broker: Broker) -> None:
    users.add_user(broker, "u", "p")
    assert permissions.set_permissions(broker, "u", "/", "c", "w", "r")
    assert not permissions.set_permissions(broker, "u", "/", "", "w", "r")
    assert list(permissions.list_permissions(broker, user="u")) == [
        {"user": "u", "vhost": "/", "configure": "", "write": "w", "read": "r"}
    ]
    assert [row["user"] for row in permissions.list_permissions(broker, vhost="/")] == ["guest", "u"]
    assert permissions.clear_permissions(broker, "u", "/")
    assert not permissions.clear_permissions(broker, "u", "/")
    with pytest.raises(AuthDataError):
        permissions.set_permissions(broker, "u", "/", "(", "", "")
    with pytest.raises(NotFound):
        permissions.set_permissions(broker, "u", "nowhere", "", "", "")
    with pytest.raises(NoSuchUser):
        permissions.clear_permissions(broker, "nobody", "/")


async def test_topic_permissions(broker: Broker) -> None:
    users.add_user(broker, "u", "p")
    assert permissions.set_topic_permissions(broker, "u", "/", "x", "w", "r")
    assert not permissions.set_topic_permissions(broker, "u", "/", "y", "w", "r")
    assert [row["exchange"] for row in permissions.list_topic_permissions(broker, user="u")] == ["x", "y"]
    assert not permissions.clear_topic_permissions(broker, "u", "/", "z")
    assert permissions.clear_topic_permissions(broker, "u", "/", "x")
    assert permissions.clear_topic_permissions(broker, "u", "/")
    assert not permissions.clear_topic_permissions(broker, "u", "/")
    with pytest.raises(InvalidArgument, match="exchange should be less than 255 bytes, actually was 256"):
        permissions.set_topic_permissions(broker, "u", "/", "x" * 256, "", "")


# -- limits


async def test_limits_of_a_virtual_host_are_replaced_at_once_and_told_once(broker: Broker) -> None:
    events = heard(broker)
    assert limits.set_vhost_limits(broker, "/", {"max-connections": 5, "max-queues": 3})
    assert not limits.set_vhost_limits(broker, "/", {"max-queues": -1})
    assert broker.vhosts["/"].limits == {"max-queues": -1}
    limits.set_vhost_limit(broker, "/", "max-connections", 2)
    assert broker.vhosts["/"].limits == {"max-queues": -1, "max-connections": 2}
    assert limits.clear_vhost_limit(broker, "/", "max-queues")
    assert not limits.clear_vhost_limit(broker, "/", "max-queues")
    assert limits.clear_vhost_limits(broker, "/")
    assert not limits.clear_vhost_limits(broker, "/")
    assert [name for name, _ in events] == ["vhost.limits.set"] * 4 + ["vhost.limits.cleared"]


async def test_limits_of_a_user_are_added_to_the_others(broker: Broker) -> None:
    limits.set_user_limits(broker, "guest", {"max-connections": 5})
    limits.set_user_limits(broker, "guest", {"max-channels": -1})
    assert broker.users.user("guest").limits == {"max-connections": 5, "max-channels": -1}
    assert limits.clear_user_limit(broker, "guest", "max-channels")
    assert not limits.clear_user_limit(broker, "guest", "max-channels")
    assert limits.clear_user_limits(broker, "guest")
    assert not limits.clear_user_limits(broker, "guest")
    with pytest.raises(NoSuchUser):
        limits.set_user_limits(broker, "nobody", {})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max-x": 1}, 'Unrecognised terms [{<<"max-x">>,1}] in limits'),
        ({"max-queues": "a"}, 'max-queues should be a number, actually was <<"a">>'),
        ({"max-queues": None}, "max-queues should be a number, actually was null"),
        ({"max-queues": True}, "max-queues should be a number, actually was true"),
        ([], "limits must be an object"),
    ],
)
async def test_limits_are_refused_in_rabbitmqs_words(broker: Broker, given: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        limits.set_vhost_limits(broker, "/", given)
    assert str(refused.value) == text
    assert not broker.vhosts["/"].limits
    with pytest.raises(InvalidArgument, match=r"in user-limits|should be a number|must be an object"):
        limits.set_user_limits(broker, "guest", given)


# -- virtual hosts


async def test_virtual_hosts_are_added_put_and_deleted(broker: Broker) -> None:
    assert vhosts.add_vhost(broker, "v", VhostMetadata("first", ("a",), "quorum"), creator="guest")
    assert [row["vhost"] for row in permissions.list_permissions(broker, user="guest")] == ["/", "v"]
    assert not vhosts.add_vhost(broker, "v", VhostMetadata("second"))
    vhost = broker.vhosts["v"]
    assert (vhost.description, vhost.tags, vhost.default_queue_type) == ("first", ("a",), "quorum")
    assert not vhosts.put_vhost(broker, "v", VhostMetadata("second"))
    assert (vhost.description, vhost.tags) == ("second", ("a",))
    assert vhosts.put_vhost(broker, "w", creator="no user of ours")
    vhosts.set_protection(broker, "v", is_protected=True)
    with pytest.raises(PreconditionFailed, match="protected from deletion"):
        vhosts.delete_vhost(broker, "v")
    vhosts.set_protection(broker, "v", is_protected=False)
    vhosts.delete_vhost(broker, "v")
    with pytest.raises(NotFound):
        vhosts.delete_vhost(broker, "v")


@pytest.mark.parametrize("name", ["", "\0", "v" * 256, "\ud800"])
async def test_names_that_no_virtual_host_can_have(broker: Broker, name: str) -> None:
    with pytest.raises((InvalidArgument, AuthDataError)):
        vhosts.put_vhost(broker, name)


async def test_an_unknown_queue_type_changes_nothing(broker: Broker) -> None:
    for put in (vhosts.add_vhost, vhosts.put_vhost):
        with pytest.raises(InvalidArgument, match="foo is not a valid queue type"):
            put(broker, "v", VhostMetadata(default_queue_type="foo"))
    assert "v" not in broker.vhosts


async def test_tracing_needs_its_plugin(broker: Broker) -> None:
    with pytest.raises(PreconditionFailed, match="plugin 'tracing' is not running"):
        vhosts.set_tracing(broker, "/", is_on=True)


# -- policies and parameters


async def test_policies(broker: Broker) -> None:
    for operator in (False, True):
        assert policies.set_policy(broker, "/", "p", VALUE, operator=operator)
        assert not policies.set_policy(broker, "/", "p", VALUE, operator=operator)
        found = broker.policies.get("/", "p", operator=operator)
        assert found is not None
        assert (found.apply_to, found.priority) == ("all", 0)
        policies.clear_policy(broker, "/", "p", operator=operator)
        with pytest.raises(NotFound):
            policies.clear_policy(broker, "/", "p", operator=operator)
    with pytest.raises(InvalidArgument):
        policies.set_policy(broker, "/", "p", PolicyValue(None, None))


async def test_parameters_belong_to_components(broker: Broker) -> None:
    broker.components["c"] = Component()
    assert parameters.set_parameter(broker, "/", "c", "n", 1)
    assert not parameters.set_parameter(broker, "/", "c", "n", 2)
    with pytest.raises(InvalidArgument, match="nothing"):
        parameters.set_parameter(broker, "/", "c", "n", None)
    with pytest.raises(InvalidArgument, match="component d not found"):
        parameters.set_parameter(broker, "/", "d", "n", 1)
    assert list(parameters.list_parameters(broker, "/", "c")) == [
        {"value": "***", "vhost": "/", "component": "c", "name": "n"}
    ]
    del broker.components["c"]  # its plugin is disabled: what it left can be cleared
    parameters.clear_parameter(broker, "/", "c", "n")
    with pytest.raises(NotFound):
        parameters.clear_parameter(broker, "/", "c", "n")


async def test_operator_policies_and_limits_are_parameters_too(broker: Broker) -> None:
    assert parameters.set_parameter(
        broker, "/", "operator_policy", "p", {"pattern": "q", "definition": {"max-length": 1}}
    )
    assert parameters.set_parameter(broker, "/", "vhost-limits", "limits", {"max-queues": 3})
    assert not broker.vhosts["/"].parameters
    assert [(row["component"], row["name"]) for row in parameters.list_parameters(broker, "/")] == [
        ("operator_policy", "p"), ("vhost-limits", "limits"),
    ]  # fmt: skip
    assert [row["value"] for row in parameters.list_parameters(broker, "/", "vhost-limits")] == [
        {"max-queues": 3}
    ]
    parameters.clear_parameter(broker, "/", "operator_policy", "p")
    parameters.clear_parameter(broker, "/", "vhost-limits", "limits")
    for component, name in (("operator_policy", "p"), ("vhost-limits", "limits")):
        with pytest.raises(NotFound):
            parameters.clear_parameter(broker, "/", component, name)
    with pytest.raises(InvalidArgument, match="Term is not a JSON object in p"):
        parameters.set_parameter(broker, "/", "operator_policy", "p", 1)


async def test_policies_are_shown_as_parameters_and_not_set_as_such(broker: Broker) -> None:
    policies.set_policy(broker, "/", "p", VALUE)
    assert [row["name"] for row in parameters.list_parameters(broker, "/", "policy")] == ["p"]
    assert list(parameters.list_parameters(broker, "/")) == []
    with pytest.raises(parameters.PolicyIsNoParameter):
        parameters.set_parameter(broker, "/", "policy", "p", {})
    with pytest.raises(parameters.PolicyIsNoParameter):
        parameters.clear_parameter(broker, "/", "policy", "p")


async def test_global_parameters(broker: Broker) -> None:
    assert parameters.set_global_parameter(broker, "n", [1])
    assert not parameters.set_global_parameter(broker, "n", 2)
    assert list(parameters.list_global_parameters(broker)) == [{"name": "n", "value": 2}]
    parameters.clear_global_parameter(broker, "n")
    with pytest.raises(NotFound):
        parameters.clear_global_parameter(broker, "n")


# -- definitions, queues, connections, the node


async def test_definitions_go_out_and_in_with_pauses(broker: Broker) -> None:
    vhosts.add_vhost(broker, "v")
    for number in range(100):  # more than are imported in one slice
        parameters.set_global_parameter(broker, f"n{number}", number)
    document = definitions.export_definitions(broker)
    vhosts.delete_vhost(broker, "v")
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        await trio.lowlevel.checkpoint()

    report = await definitions.import_definitions(broker, document, pause)
    assert report.counts["vhosts"] == 2
    assert "v" in broker.vhosts
    assert pauses
    assert "vhosts" not in definitions.export_definitions(broker, "v")
    with pytest.raises(DefinitionsError):
        await definitions.import_definitions(broker, [], pause)


async def test_an_operator_purges_and_deletes_queues_of_others(broker: Broker) -> None:
    vhost = broker.vhosts["/"]
    facts: dict[str, Any] = {"durable": False, "auto_delete": False, "arguments": {}}
    vhost.add_queue("q", exclusive=True, owner=object(), **facts)
    assert topology.purge_queue(broker, "q", "/") == 0
    assert topology.delete_queue(broker, "q", "/", if_empty=True, if_unused=True) == 0
    for operation in (topology.purge_queue, topology.delete_queue):
        with pytest.raises(NotFound, match="no queue 'q' in vhost '/'"):
            operation(broker, "q", "/")
        with pytest.raises(NotFound):
            operation(broker, "q", "nowhere")


async def test_connections_are_closed_by_name_user_and_virtual_host(broker: Broker) -> None:
    vhosts.add_vhost(broker, "v")
    (one,) = connected(broker.connections, 1, "u", "/")
    (two,) = connected(broker.connections, 1, "u", "v")
    connections.close_connection(broker, one.name, "a")
    assert connections.close_vhost_connections(broker, "/", "b") == 1
    assert connections.close_user_connections(broker, "u", "c") == 2
    assert [reason for reason, _ in one.closed] == ["a", "b", "c"]
    assert [reason for reason, _ in two.closed] == ["c"]
    with pytest.raises(NotFound):
        connections.close_connection(broker, "3", "a")
    with pytest.raises(NotFound):
        connections.close_vhost_connections(broker, "nowhere", "a")
    for connection in (one, two):
        broker.connections.discard(connection)


async def test_thresholds(broker: Broker) -> None:
    node.set_memory_watermark(broker, "0")
    assert node.status(broker)["alarms"] == ["memory"]
    for text in ("much", "2"):
        with pytest.raises(InvalidArgument):
            node.set_memory_watermark(broker, text)
    node.set_disk_free_limit(broker, "1 GB")
    assert node.status(broker)["disk"]["free_limit_bytes"] == 10**9
    with pytest.raises(InvalidArgument):
        node.set_disk_free_limit(broker, "much")
    with pytest.raises(InvalidArgument):
        node.set_log_level(broker, "loud")
