"""The registry of connections: what it counts, and that nothing is asked of the connections for it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import data, sampled_from
from support.connections import FakeConnection, connected
from support.in_process import InProcess, broker_in_process

from leveret.auth.contracts import Principal
from leveret.conf.settings import Limits
from leveret.core.churn import Churn
from leveret.core.connections import Connections
from leveret.core.counters import Traffic
from leveret.core.errors import ConnectionRefused, NotAllowed

USERS, VHOSTS = ("alice", "bob"), ("/", "shop")


class Registry(RuleBasedStateMachine):
    """Kept counts are those that asking every connection would give."""

    def __init__(self) -> None:
        super().__init__()
        self.churn, self.traffic = Churn(), Traffic()
        self.connections = Connections(self.churn, self.traffic)
        self.there: list[FakeConnection] = []
        self.opened = 0

    @rule()
    def accept(self) -> None:
        self.there.append(FakeConnection(f"c{self.opened}"))
        self.opened += 1
        self.connections.add(self.there[-1])
        self.connections.add(self.there[-1])

    @precondition(lambda self: self.there)
    @rule(data=data(), username=sampled_from(USERS), vhost=sampled_from(VHOSTS))
    def log_in(self, data, username: str, vhost: str) -> None:  # type: ignore[no-untyped-def]
        one = data.draw(sampled_from(self.there))
        if not one.username:
            one._username, one._vhost_name = username, vhost
            self.connections.log_in(one)
            self.connections.log_in(one)

    @precondition(lambda self: self.there)
    @rule(data=data())
    def open_channel(self, data) -> None:  # type: ignore[no-untyped-def]
        one = data.draw(sampled_from(self.there))
        if one.username:
            one.open_channel(self.connections)

    @precondition(lambda self: self.there)
    @rule(data=data())
    def close_channel(self, data) -> None:  # type: ignore[no-untyped-def]
        one = data.draw(sampled_from(self.there))
        if one.channel_count:
            one.close_channel(self.connections)

    @precondition(lambda self: self.there)
    @rule(data=data())
    def leave(self, data) -> None:  # type: ignore[no-untyped-def]
        one = data.draw(sampled_from(self.there))
        self.there.remove(one)
        self.connections.discard(one)
        self.connections.discard(one)

    @invariant()
    def counts(self) -> None:
        connections, there = self.connections, self.there
        assert list(connections) == there
        assert len(connections) == len(there)
        logged_in = [one for one in there if one.username]
        assert connections.login_count == len(logged_in)
        assert connections.channel_count == sum(one.channel_count for one in logged_in)
        for username in USERS:
            mine = [one for one in logged_in if one.username == username]
            assert set(connections.of_user(username)) == set(mine)
            assert connections.of_user(username).channel_count == sum(one.channel_count for one in mine)
        for vhost in VHOSTS:
            mine = [one for one in logged_in if one.vhost_name == vhost]
            assert set(connections.of_vhost(vhost)) == set(mine)
            assert connections.of_vhost(vhost).channel_count == sum(one.channel_count for one in mine)
        assert (self.churn.connections_opened, self.churn.connections_closed) == (
            self.opened, self.opened - len(there)
        )  # fmt: skip
        gone = self.traffic.by_protocol.get("fake")
        assert (gone.received if gone else 0) == self.opened - len(there)

    def teardown(self) -> None:
        for one in self.there:
            self.connections.discard(one)
        assert not self.connections._by_user
        assert not self.connections._by_vhost
        assert self.connections.channel_count == self.connections.login_count == 0


TestRegistry = Registry.TestCase


def asked(connections: list[FakeConnection]) -> Counter[str]:
    return sum((one.asked for one in connections), Counter())


async def test_limits_are_checked_without_asking_the_connections() -> None:
    async with broker_in_process(limits=Limits(connection_max=1003)) as server:
        broker = server.broker
        vhost = broker.vhosts["/"]
        vhost.set_limits({"max-connections": 1001})
        broker.users.set_user_limits("guest", {"max-connections": 1002, "max-channels": 3000})
        there = connected(broker.connections, 1000, "guest", "/", channels=3)
        await broker.open_session(Principal("guest"), "/", object())
        with pytest.raises(NotAllowed, match="maximum allowed user limit of 3000"):
            broker.connection_limits.check_channel("guest")
        assert not asked(there)
        await take_all_places(server, there)
        for one in there:
            broker.connections.discard(one)


async def take_all_places(server: InProcess, there: list[FakeConnection]) -> None:
    """One limit after the other is reached, from the narrowest on."""
    broker = server.broker
    for more, text in (
        (1, r"access to vhost '/' refused for user 'guest': connection limit \(1001\) is reached"),
        (1, r"connection refused for user 'guest': user connection limit \(1002\) is reached"),
        (1, r"connection refused: node connection limit \(1003\) is reached"),
    ):
        there += connected(broker.connections, more, "guest", "/")
        with pytest.raises(ConnectionRefused, match=text):
            await broker.open_session(Principal("guest"), "/", object())
        broker.vhosts["/"].set_limits({})
        if len(there) == 1002:
            broker.users.set_user_limits("guest", {})


async def test_a_deleted_user_or_virtual_host_ends_its_connections_alone() -> None:
    async with broker_in_process() as server:
        broker = server.broker
        broker.add_vhost("shop")
        broker.users.add_user("alice", "secret")
        mine = connected(broker.connections, 2, "alice", "/")
        shop = connected(broker.connections, 2, "guest", "shop")
        others = connected(broker.connections, 1000, "guest", "/")
        broker.users.delete_user("alice")
        broker.delete_vhost("shop")
        assert [one.closed for one in mine] == [[("user 'alice' is deleted", 320)]] * 2
        assert [one.closed for one in shop] == [[("vhost 'shop' was deleted", 320)]] * 2
        assert not any(one.closed for one in others)
        assert not asked(others)
        for one in mine + shop + others:
            broker.connections.discard(one)
