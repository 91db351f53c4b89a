"""The checks that authors of adapters, backends and plugins run: what is built in passes them, and faults do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER
from leveret.adapters.base import ListenerSpec
from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.stomp.adapter import StompAdapter
from leveret.auth.contracts import AccessDenied, Credentials, Principal
from leveret.auth.internal import InternalBackend
from leveret.conf.declare import setting
from leveret.conf.settings import Auth, Settings, shared_sections
from leveret.plugins.checks import (
    check_adapter,
    check_authenticator,
    check_authorizer,
    check_plugin,
    check_settings,
)
from leveret.plugins.tracing import TracingPlugin
from leveret.plugins.webhooks.plugin import WebhooksPlugin

ADAPTERS = [
    (AmqpAdapter, [PROTOCOL_HEADER]),
    (
        HttpAdapter,
        [b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /api/v1/x HTTP/1.1\r\nHost: x\r\n"],
    ),
    (MqttAdapter, [b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03dev"]),
    (StompAdapter, [b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"]),
]


@pytest.mark.parametrize(("adapter", "hello"), ADAPTERS)
async def test_our_adapters(adapter: Any, hello: list[bytes]) -> None:
    await check_adapter(adapter, hello)


async def test_our_backend() -> None:
    backend = InternalBackend(Auth())
    backend.add_user("ann", "secret and long")
    backend.set_permissions("ann", "/", ".*", ".*", ".*")
    await check_authenticator(
        backend,
        accepted=[Credentials("PLAIN", "ann", "secret and long")],
        rejected=[Credentials("PLAIN", "bob", "secret and long"), Credentials("EXTERNAL", "bob")],
    )
    await check_authorizer(backend, Principal("ann"))


@pytest.mark.parametrize("plugin", [TracingPlugin, WebhooksPlugin])
async def test_our_plugins(plugin: Any) -> None:
    await check_plugin(plugin)


@pytest.mark.parametrize("declaration", shared_sections().values())
def test_our_shared_sections(declaration: type) -> None:
    if declaration is type(Settings().listeners):
        return  # its ports are no setting of its own
    check_settings(declaration)


# -- faults


class Good:
    """A backend with one user, and a task."""

    name: ClassVar[str] = "good"

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.username == "ann":
            if credentials.password == "a good secret":
                return Principal("ann", backend=self.name)
            raise AccessDenied("ann - invalid credentials")
        return None

    def authorize(self, principal: Any, vhost: Any, permission: Any, resource: Any) -> Any:
        return resource.kind == "queue" if principal.backend == self.name else None


class Careless(Good):
    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return Principal(credentials.username or "x", backend=self.name)


class Talkative(Good):
    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.password != "a good secret":
            raise AccessDenied(f"not {credentials.password}")
        return await super().authenticate(credentials)


class Unsigned(Good):
    async def authenticate(self, credentials: Credentials) -> Principal | None:
        found = await super().authenticate(credentials)
        return None if found is None else Principal(found.username)


class Open(Good):
    def authorize(self, principal: Any, vhost: Any, permission: Any, resource: Any) -> Any:
        return True


class Wordy(Good):
    def authorize(self, principal: Any, vhost: Any, permission: Any, resource: Any) -> Any:
        return "yes"


async def check_backend(backend: Any) -> None:
    await check_authenticator(
        backend,
        accepted=[Credentials("PLAIN", "ann", "a good secret")],
        rejected=[Credentials("PLAIN", "bob", "x")],
    )
    await check_authorizer(backend, Principal("ann", backend="good"))


async def test_a_good_backend_passes() -> None:
    await check_backend(Good())


@pytest.mark.parametrize(
    ("backend", "complaint"),
    [
        (Careless, "should not be accepted"),
        (Talkative, "the password is in the reason"),
        (Unsigned, "must name the backend"),
        (Open, "a user of another backend"),
        (Wordy, "is not an answer"),
    ],
)
async def test_faults_of_backends_are_found(backend: type[Good], complaint: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match=complaint)):
        await check_backend(backend())


@dataclass(frozen=True, slots=True)
class Reloadable:
    """Something."""

    rate: int = setting(1, "how many", minimum=0, reloadable=True)


class Quiet:
    """An adapter that says nothing."""

    name: ClassVar[str] = "quiet"
    settings_type: ClassVar[type | None] = Reloadable
    listeners: ClassVar[Any] = (ListenerSpec("quiet", "Quiet"),)
    protocols: ClassVar[Any] = ("quiet",)
    login_protocol: ClassVar[str] = "quiet"

    def __init__(self, broker: Any) -> None:
        self.broker = broker

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def serve(self, transport: Any) -> None:
        while await transport.receive():
            pass


class Fragile(Quiet):
    async def serve(self, transport: Any) -> None:
        (await transport.receive()).decode()


class Deaf(Quiet):
    async def serve(self, transport: Any) -> None:
        await trio.sleep_forever()


class Bare(Quiet):
    listeners: ClassVar[Any] = (ListenerSpec("bare"),)


async def test_a_good_adapter_passes() -> None:
    await check_adapter(Quiet)


async def test_faults_of_adapters_are_found(autojump_clock: object) -> None:
    with pytest.raises(AssertionError, match="has no label"):
        await check_adapter(Bare)
    with pytest.RaisesGroup(UnicodeDecodeError, flatten_subgroups=True):
        await check_adapter(Fragile)
    with pytest.RaisesGroup(trio.TooSlowError, flatten_subgroups=True):
        await check_adapter(Deaf)


class Plain:
    """A plugin."""

    name: ClassVar[str] = "plain"
    description: ClassVar[str] = "Does nothing"
    requires: ClassVar[Any] = ()
    exchanges: ClassVar[Any] = ()
    settings_type: ClassVar[type | None] = None

    def __init__(self, *settings: Any) -> None:
        pass

    async def run(
        self, broker: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        task_status.started()


class Forgetful(Plain):
    async def run(
        self, broker: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        broker.services["forgetful"] = self
        task_status.started()


class Rigid(Plain):
    settings_type: ClassVar[type | None] = Reloadable


async def test_faults_of_plugins_are_found() -> None:
    await check_plugin(Plain)
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="leaves something"), flatten_subgroups=True
    ):
        await check_plugin(Forgetful)
    with pytest.raises(AssertionError, match=r"no reconfigure\(\)"):
        await check_plugin(Rigid)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"frozen": False}, "not frozen"),
        ({"doc": ""}, "no docstring"),
        ({"default": -1}, "must be at least 0"),
    ],
)
def test_faults_of_settings_are_found(options: Mapping[str, Any], complaint: str) -> None:
    class Made:
        rate: int = setting(options.get("default", 1), "how many", minimum=0)

    declared = dataclass(frozen=options.get("frozen", True))(Made)
    declared.__doc__ = options.get("doc", "Something.")
    with pytest.raises((AssertionError, ValueError), match=complaint):
        check_settings(declared)
