"""docs/auth.md is true: its backend is installed as a stranger's distribution, and asked."""

from __future__ import annotations

import hmac
import re
import tomllib
from pathlib import Path

import pytest
from support.distributions import install

from leveret.auth.chain import AuthChain
from leveret.auth.checks import check_authenticator, check_authorizer
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource
from leveret.conf.load import SettingsError, load
from leveret.core.broker import Broker
from leveret.core.store.memory import MemoryStore
from leveret.plugins.loader import declarations_of, load_registry

DOC = (Path(__file__).parents[2] / "docs" / "auth.md").read_text(encoding="utf-8")
KEY = "k" * 32


def credentials(name: str, password: str) -> Credentials:
    return Credentials("PLAIN", name, password, peer_host="192.0.2.1")


def password(name: str) -> str:
    return hmac.digest(KEY.encode(), name.encode(), "sha256").hex()


def auth(*backends: str) -> AuthChain:
    registry = load_registry()
    environ = {"LEVERET_AUTH_BACKENDS": ",".join(backends), "LEVERET_AUTH_DEVICES_KEY": KEY}
    if "devices" not in backends:
        del environ["LEVERET_AUTH_DEVICES_KEY"]
    broker = Broker(load(None, environ, {}, declarations_of(registry)), registry, MemoryStore())
    broker.users.add_user("ann", "secret")
    broker.users.add_user("device-1", "another")  # a namesake, who may do everything
    broker.users.set_permissions("device-1", "/", ".*", ".*", ".*")
    return broker.auth


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", DOC, re.DOTALL))
    (block,) = re.findall(r"```toml\n(\[project.*?)```", DOC, re.DOTALL)
    groups = tomllib.loads(block)["project"]["entry-points"]
    points = [
        f"[{group}]\n" + "\n".join(f"{n} = {v}" for n, v in found.items()) for group, found in groups.items()
    ]
    install(monkeypatch, tmp_path / "site", "devices", modules, "\n".join(points))


@pytest.mark.usefixtures("installed")
async def test_the_backend() -> None:
    chain = auth("devices", "internal")
    device = await chain.authenticate(credentials("device-1", password("device-1")))
    assert (device.username, device.backend) == ("device-1", "devices")
    for wrong in ("another", "", password("device-2"), "\udcff"):
        with pytest.raises(AccessDenied):
            await chain.authenticate(credentials("device-1", wrong))
    assert (await chain.authenticate(credentials("ann", "secret"))).backend == "internal"

    def may(permission: Permission | None, resource: Resource, vhost: str = "/") -> bool | None:
        return chain.authorize_nowait(device, vhost, permission, resource)

    assert may(None, Resource("vhost", "/"))
    assert not may(None, Resource("vhost", "other"), "other")
    assert may(Permission.READ, Resource("queue", "device-1"))
    assert not may(Permission.READ, Resource("queue", "device-2"))
    assert may(Permission.WRITE, Resource("exchange", "amq.topic"))
    assert not may(Permission.WRITE, Resource("exchange", ""))
    assert may(Permission.WRITE, Resource("topic", "amq.topic", "device-1.temperature"))
    assert not may(Permission.WRITE, Resource("topic", "amq.topic", "device-10.temperature"))


@pytest.mark.usefixtures("installed")
async def test_the_backend_passes_the_checks() -> None:
    backend = load_registry().load("authenticators", "devices")
    own = backend.settings_type(KEY)
    accepted = credentials("device-1", password("device-1"))
    await check_authenticator(backend(own), accepted=[accepted], rejected=[credentials("device-2", "x")])
    await check_authorizer(backend(own), Principal("device-1", backend="devices"))


@pytest.mark.usefixtures("installed")
async def test_the_order_is_the_configurations() -> None:
    with pytest.raises(AccessDenied):  # internal has a device-1, and this is not its password
        await auth("internal", "devices").authenticate(credentials("device-1", password("device-1")))
    other = await auth("internal", "devices").authenticate(credentials("device-2", password("device-2")))
    assert other.backend == "devices"
    with pytest.raises(AccessDenied):
        await auth("internal").authenticate(credentials("device-2", password("device-2")))


@pytest.mark.usefixtures("installed")
def test_the_configuration(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(# leveret.toml\n.*?)```", DOC, re.DOTALL)
    file = tmp_path / "leveret.toml"
    file.write_text(text)
    owned = declarations_of(load_registry())
    loaded = load(file, {}, {}, owned)
    assert loaded.auth.backends == ("devices", "internal")
    assert "a secret of 32" not in repr(loaded)
    with pytest.raises(SettingsError) as caught:
        load(file, {"LEVERET_AUTH_DEVICES_KEY": "short"}, {}, owned)
    assert caught.value.problems == ("LEVERET_AUTH_DEVICES_KEY must be at least 32 characters.",)


def test_a_backend_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(
        monkeypatch, tmp_path / "site", "broken", {}, "[leveret.authenticators]\nbroken = no_such_module:X\n"
    )
    with pytest.raises(SettingsError, match=r"broken 1\.0 cannot be loaded"):
        auth("broken")
