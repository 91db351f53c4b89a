"""A server for tests of the management API, one per module, with what happens on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.management import Management, control
from support.management_activity import USERS, VHOST, Activity
from support.management_writes import ALL
from support.server import LeveretServer, poll


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    """A server with users of every tag, a second virtual host, and rates that are sampled often."""
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("http") / "data", settings) as server:
        control(
            server,
            ("add_vhost", {"name": VHOST, "description": "second"}),
            *(("add_user", {"username": name, "password": "p"}) for name in USERS),
            *(("set_user_tags", {"username": name, "tags": tags}) for name, tags in USERS.items()),
            *(
                (
                    "set_permissions",
                    {"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"},
                )
                for user, vhost in (("guest", VHOST), ("manager", VHOST))
            ),
        )
        yield server
        assert server.stop() == 0, server.errors
        assert "Traceback" not in server.errors


@pytest.fixture
def api(broker: LeveretServer) -> Iterator[Management]:
    with Management(broker.ports["http"]) as client:
        yield client


@pytest.fixture(scope="module")
def activity(broker: LeveretServer) -> Iterator[Activity]:
    active = Activity(broker)
    with Management(broker.ports["http"]) as client:
        # A queue is idle from the second look on that finds it unchanged: the first has sampled everything.
        poll(lambda: "idle_since" in client.get("/queues/%/q1", "/"), "two looks of the sampler")
    yield active
    active.close()


@pytest.fixture
def start(server: Callable[..., LeveretServer], tmp_path: Path) -> Callable[..., LeveretServer]:
    """Starts a server of the test's own, whose webhooks may reach this machine. Options: of the fixture `server`."""
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    return lambda **options: server(arguments=["--config", str(config)], **options)


# Of the writing half: a server as it comes, and an `api` of the module's own


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    with LeveretServer(tmp_path_factory.mktemp("write") / "data") as server:
        yield server
        assert "Traceback" not in server.errors, server.errors
        assert server.stop() == 0


@pytest.fixture
def vhost(api: Management, name: str) -> Iterator[str]:
    """A virtual host that guest may enter."""
    assert api.request("PUT", f"/vhosts/{name}").status == 201
    assert api.get(f"/permissions/{name}/guest") == {
        "user": "guest",
        "vhost": name,
        **ALL,
    }  # who made it may all
    yield name
    assert api.request("DELETE", f"/vhosts/{name}").status == 204
