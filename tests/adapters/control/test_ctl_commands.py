"""`leveret ctl` up to the socket: what is asked, what is shown, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from leveret.__main__ import cli
from leveret.adapters.cli import client

Ctl = Callable[..., Result]


class Server:
    """Answers every command with `answer`, or raises it; keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.path = Path()

    def call(
        self, path: Path, command: str, arguments: dict[str, Any], timeout_s: float | None = None
    ) -> Any:
        self.path = path
        self.asked.append((command, dict(arguments)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(client, "call", server.call)
    return server


@pytest.fixture
def ctl(server: Server, tmp_path: Path) -> Ctl:
    def run(*arguments: str, input: str | None = None, group: str = "ctl") -> Result:
        environment = {"LEVERET_DATA_DIR": str(tmp_path), "LEVERET_NONSENSE": "x"}
        return CliRunner().invoke(cli, [group, *arguments], input=input, env=environment)

    return run


LISTED = {"columns": ["name", "messages"], "rows": [{"name": "q", "messages": 2}]}


@pytest.mark.parametrize(
    ("line", "command", "arguments"),
    [
        ("add_user u p", "add_user", {"username": "u", "password": "p"}),
        ("delete_user u", "delete_user", {"username": "u"}),
        ("change_password u p", "change_password", {"username": "u", "password": "p"}),
        ("clear_password u", "clear_password", {"username": "u"}),
        ("authenticate_user u p", "authenticate_user", {"username": "u", "password": "p"}),
        ("set_user_tags u a b", "set_user_tags", {"username": "u", "tags": ["a", "b"]}),
        ("set_user_tags u", "set_user_tags", {"username": "u", "tags": []}),
        ("list_users", "list_users", {}),
        (
            "set_permissions -p v u c w r", "set_permissions",
            {"user": "u", "configure": "c", "write": "w", "read": "r", "vhost": "v"},
        ),
        (
            "set_permissions u c w r --vhost v", "set_permissions",
            {"user": "u", "configure": "c", "write": "w", "read": "r", "vhost": "v"},
        ),
        ("-p v clear_permissions u", "clear_permissions", {"user": "u", "vhost": "v"}),
        ("list_permissions", "list_permissions", {"vhost": "/"}),
        ("list_user_permissions u", "list_user_permissions", {"user": "u"}),
        (
            "add_vhost v --tags a,b", "add_vhost",
            {"name": "v", "description": "", "tags": "a,b", "default_queue_type": "classic"},
        ),
        ("set_vhost_limits -p v {}", "set_vhost_limits", {"definition": "{}", "vhost": "v"}),
        ("set_user_limits u {}", "set_user_limits", {"user": "u", "definition": "{}"}),
        ("clear_user_limits u all", "clear_user_limits", {"user": "u", "limit": "all"}),
        ("clear_topic_permissions u", "clear_topic_permissions", {"user": "u", "exchange": None, "vhost": "/"}),
        ("clear_topic_permissions u e", "clear_topic_permissions", {"user": "u", "exchange": "e", "vhost": "/"}),
        ("delete_vhost v", "delete_vhost", {"name": "v"}),
        ("list_vhosts name tracing", "list_vhosts", {"columns": ["name", "tracing"]}),
        ("list_queues", "list_queues", {"vhost": "/", "columns": []}),
        ("-n node -q list_queues name,messages durable", "list_queues",
         {"vhost": "/", "columns": ["name", "messages", "durable"]}),
        ("list_exchanges -p v", "list_exchanges", {"vhost": "v", "columns": []}),
        ("list_bindings", "list_bindings", {"vhost": "/", "columns": []}),
        ("list_connections user", "list_connections", {"columns": ["user"]}),
        ("list_channels", "list_channels", {"columns": []}),
        ("list_consumers", "list_consumers", {"vhost": "/", "columns": []}),
        ("purge_queue q -p v", "purge_queue", {"queue": "q", "vhost": "v"}),
        ("delete_queue q", "delete_queue", {"queue": "q", "vhost": "/", "if_empty": False, "if_unused": False}),
        ("delete_queue q -e --if-unused", "delete_queue", {"queue": "q", "vhost": "/", "if_empty": True, "if_unused": True}),
        (
            'set_policy --priority 3 --apply-to queues p ^q {"max-length":1} -p v', "set_policy",
            {"name": "p", "pattern": "^q", "definition": '{"max-length":1}', "priority": 3, "apply_to": "queues", "vhost": "v"},
        ),
        (
            "set_operator_policy p ^q {}", "set_operator_policy",
            {"name": "p", "pattern": "^q", "definition": "{}", "priority": 0, "apply_to": "all", "vhost": "/"},
        ),
        ("clear_policy p", "clear_policy", {"name": "p", "vhost": "/"}),
        ("clear_operator_policy p", "clear_operator_policy", {"name": "p", "vhost": "/"}),
        ("list_policies", "list_policies", {"vhost": "/"}),
        ("list_operator_policies", "list_operator_policies", {"vhost": "/"}),
        ("trace_on -p v", "trace_on", {"vhost": "v"}),
        ("trace_off", "trace_off", {"vhost": "/"}),
        ("close_connection c because", "close_connection", {"name": "c", "reason": "because"}),
        ("close_all_connections -p v because", "close_all_connections", {"vhost": "v", "reason": "because"}),
        ("ping", "ping", {}),
        ("await_startup", "ping", {}),
        ("plugins list", "plugins_list", {}),
        ("plugins enable a b", "plugins_enable", {"names": ["a", "b"]}),
        ("plugins disable a", "plugins_disable", {"names": ["a"]}),
    ],
)  # fmt: skip
def test_commands_ask(
    ctl: Ctl, server: Server, line: str, command: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    server.answer = LISTED if "list" in command else []
    result = ctl(*line.split(" "))
    assert (result.exit_code, result.stderr) == (0, "")
    assert server.asked == [(command, arguments)]
    assert server.path == tmp_path / "control.sock"


def test_plugins_stand_by_themselves_too(ctl: Ctl, server: Server) -> None:
    server.answer = []
    assert ctl("enable", "a", group="plugins").exit_code == 0
    assert server.asked == [("plugins_enable", {"names": ["a"]})]


def test_listing_as_rabbitmqctl_prints_it(ctl: Ctl, server: Server) -> None:
    server.answer = LISTED
    assert ctl("list_queues").stdout == "Listing queues for vhost / ...\nname\tmessages\nq\t2\n"
    assert ctl("list_queues", "-q").stdout == "name\tmessages\nq\t2\n"
    assert ctl("-s", "list_queues").stdout == "q\t2\n"
    assert ctl("-q", "list_queues", "--no-table-headers").stdout == "q\t2\n"
    assert json.loads(ctl("list_queues", "--formatter", "json").stdout) == [{"name": "q", "messages": 2}]
    assert ctl("--formatter=csv", "list_queues").stdout == "name,messages\nq,2\n"


def test_changes_as_rabbitmqctl_prints_them(ctl: Ctl, server: Server) -> None:
    assert ctl("delete_user", "u").stdout == 'Deleting user "u" ...\n'
    assert ctl("-q", "delete_user", "u").stdout == ""
    assert ctl("set_user_tags", "u", "a", "b").stdout == 'Setting tags for user "u" to [a, b] ...\n'
    assert ctl("trace_on").stdout == 'Starting tracing for vhost "/" ...\nTrace enabled for vhost /\n'
    assert json.loads(ctl("--formatter", "json", "delete_user", "u").stdout) == {"status": "ok"}
    server.answer = 3
    assert ctl("delete_queue", "q").stdout.endswith("successfully deleted with 3 ready messages\n")


def test_password_comes_from_standard_input(ctl: Ctl, server: Server) -> None:
    assert ctl("add_user", "u", input="s3cret\n").exit_code == 0
    assert server.asked == [("add_user", {"username": "u", "password": "s3cret"})]


@pytest.mark.parametrize(
    ("reason", "status"),
    [("usage", 64), ("not_found", 65), ("invalid", 65), ("no_user", 67), ("exists", 70), ("refused", 70),
     ("internal", 70), ("unavailable", 75), ("unheard of", 70)],
)  # fmt: skip
def test_refusals_exit_as_rabbitmqctl(ctl: Ctl, server: Server, reason: str, status: int) -> None:
    server.answer = client.Refused("it will not do", reason)
    result = ctl("-q", "delete_vhost", "v")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", "Error: it will not do\n")


def test_no_server_is_69(ctl: Ctl, server: Server) -> None:
    server.answer = client.Unavailable("nobody is there")
    assert (ctl("ping").exit_code, ctl("ping").stderr) == (69, "Error: nobody is there\n")


@pytest.mark.parametrize(
    "line",
    [
        "nothing",
        "add_user",
        "add_user a b c",
        "list_queues --formatter xml",
        "ping -t 0",
        "plugins enable",
        "--what",
    ],
)
def test_mistakes_on_the_line_are_64(ctl: Ctl, line: str) -> None:
    result = ctl(*line.split())
    assert result.exit_code == 64
    assert "Error" in result.stderr


def test_socket_and_config_say_where(ctl: Ctl, server: Server, tmp_path: Path) -> None:
    ctl("--socket", "/run/x.sock", "ping")
    assert server.path == Path("/run/x.sock")
    ctl("ping", "--data-dir", "/data")
    assert server.path == Path("/data/control.sock")
    config = tmp_path / "c.toml"
    config.write_text('[server]\ncontrol_socket = "/run/y.sock"\n')
    ctl("ping", "--config", str(config))
    assert server.path == Path("/run/y.sock")
    config.write_text("[server]\nnonsense = 1\n")
    assert ctl("ping", "--config", str(config)).exit_code == 64


def test_status_is_shown_and_dumped(ctl: Ctl, server: Server) -> None:
    server.answer = {"node": "n", "listeners": {"amqp": "127.0.0.1 port 1"}, "alarms": []}
    assert json.loads(ctl("status", "--formatter", "json").stdout) == server.answer
    text = ctl("-q", "status").stdout
    assert text == "node: n\n\nListeners\n\n  amqp: 127.0.0.1 port 1\n\nAlarms\n\n  (none)\n"


def test_stop_waits_for_the_process(ctl: Ctl, server: Server) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    server.answer = {"pid": process.pid}
    assert ctl("stop").exit_code == 0
    server.answer = {"pid": os.getpid()}
    assert ctl("-t", "0.1", "stop").exit_code == 75
