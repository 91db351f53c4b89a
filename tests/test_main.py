"""`leveret` as a process: how it starts, refuses to, reloads and stops."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from support.server import DOORS, LeveretServer, own_server_only, poll

from leveret import __version__

pytestmark = own_server_only("these are about this server's own command line")

Start = Callable[..., LeveretServer]


def leveret(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    return subprocess.run(
        [sys.executable, "-m", "leveret", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version() -> None:
    assert leveret("--version").stdout == f"leveret {__version__}\n"


def test_ctl_starts_without_the_broker() -> None:
    code = (
        "import sys; from leveret.__main__ import cli\n"
        "try: cli(['ctl', '--data-dir', '/nonexistent', 'ping'])\n"
        "except SystemExit as end: assert end.code == 69, end.code\n"
        "assert not {'trio', 'lmdb', 'leveret.core.broker', 'tabulate'} & set(sys.modules), 'imported too much'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


# -- refusals: one sentence each, status 2


def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[amqp]\nframe_maxx = 1\n")
    done = leveret("serve", "--config", str(config), "--amqp", "x", LEVERET_AMQPSS="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"leveret: {config}: there is no setting amqp.frame_maxx; did you mean frame_max?",
        "leveret: LEVERET_AMQPSS: there is no such setting; did you mean LEVERET_AMQPS?",
        "leveret: --amqp must be a whole number or \"off\", not 'x'.",
    ]


def refusal(*arguments: str, **environment: str) -> str:
    """The one sentence on standard error, log lines aside."""
    done = leveret("serve", *DOORS, "--log-level", "critical", *arguments, **environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refusal(
            "--data-dir", str(tmp_path / "d"), "--amqp", str(port)
        )


def test_data_directory_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert f"the data directory {file}/d cannot be made" in refusal("--data-dir", str(file / "d"))


def test_data_directory_of_another_server(server: Start, tmp_path: Path) -> None:
    server(data_dir=tmp_path / "d")
    assert str(tmp_path / "d") in refusal("--data-dir", str(tmp_path / "d"))


def test_certificate_that_is_none(tmp_path: Path) -> None:
    sentence = refusal(
        "--data-dir", str(tmp_path / "d"), "--amqps", "0", LEVERET_TLS_CERTFILE=str(tmp_path / "no.pem")
    )
    assert "the TLS certificate cannot be used" in sentence


def test_what_is_not_installed(tmp_path: Path) -> None:
    assert "nonsense" in refusal("--data-dir", str(tmp_path / "d"), LEVERET_PLUGINS_ENABLED="nonsense")
    for setting in ("LEVERET_AUTH_BACKENDS", "LEVERET_STORE_ENGINE"):
        assert "nonsense" in refusal("--data-dir", str(tmp_path / "d"), **{setting: "nonsense"})
    config = tmp_path / "c.toml"
    config.write_text("[plugins.nonsense]\nx = 1\n")
    assert "nonsense" in refusal("--data-dir", str(tmp_path / "d"), "--config", str(config))


def test_log_file_that_cannot_be_written(tmp_path: Path) -> None:
    sentence = refusal("--data-dir", str(tmp_path / "d"), LEVERET_LOG_FILE=str(tmp_path / "no" / "log"))
    assert sentence.endswith("cannot be written: No such file or directory")


# -- running


def test_starts_within_a_second_and_says_so(server: Start) -> None:
    one = server()
    match = poll(
        lambda: re.search(r"Server startup complete; version=(\S+) took=([\d.]+)s amqp=\S+", one.errors),
        "log",
    )
    assert match[1] == __version__
    assert float(match[2]) < 5  # a loaded machine; alone it is 0.3


def test_people_get_a_banner(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "leveret", "serve", "--data-dir", str(tmp_path / "d"), *DOORS],
        env=environment, stdout=theirs, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while b"leveret ready" not in text or not text.endswith(b"\n"):
        text += os.read(ours, 4096)
    process.terminate()
    assert process.wait(15) == 0
    os.close(ours)
    *banner, ready = text.decode().split("\r\n")[:-1]
    assert f"Leveret {__version__}, started in" in banner[1]
    for word in ("amqp", "127.0.0.1:", "control", "control.sock", "data", str(tmp_path / "d")):
        assert word in "\n".join(banner)
    listeners = " ".join(
        rf"{name}=127\.0\.0\.1:\d+" for name in ("amqp", "http", "mqtt", "web-mqtt", "stomp", "web-stomp")
    )
    assert re.fullmatch(rf"leveret ready: {listeners} data={tmp_path}/d", ready)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_gracefully(server: Start, number: signal.Signals) -> None:
    one = server()
    peer = one.peer()
    one.process.send_signal(number)
    close = peer.expect(0, "connection.close")
    assert close.arguments["reply_code"] == 320
    peer.send(0, "connection.close-ok")
    assert one.process.wait(10) == 0
    peer.close()
    assert not (one.data_dir / "control.sock").exists()
    poll(lambda: "stopped" in one.errors, "the last log line")
    assert "Traceback" not in one.errors


def test_second_signal_is_at_once(server: Start) -> None:
    one = server(settings={"LEVERET_SERVER_SHUTDOWN_TIMEOUT_S": "60"})
    with one.peer() as peer:
        one.process.send_signal(signal.SIGTERM)
        peer.expect(0, "connection.close")  # and does not answer
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(10) == 1


def test_silent_client_does_not_stop_the_shutdown(server: Start) -> None:
    one = server(settings={"LEVERET_SERVER_SHUTDOWN_TIMEOUT_S": "0.3"})
    with one.peer() as peer:
        began = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        peer.expect(0, "connection.close")
        assert one.process.wait(10) == 0
        assert time.monotonic() - began < 8


def test_hangup_reloads_what_may_change(server: Start, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[log]\nlevel = "info"\n')
    one = server(arguments=["--config", str(config)])
    config.write_text('[log]\nlevel = "warning"\n[listeners]\nbacklog = 7\n[limits]\nconnection_max = 1\n')
    one.process.send_signal(signal.SIGHUP)
    poll(lambda: "need a restart: listeners.backlog" in one.errors, "the reload")
    assert "changed=limits.connection_max,log.level" not in one.errors  # info is not written any more
    with one.peer(), pytest.raises(AssertionError, match="node connection limit"):
        one.peer()
    config.write_text("[log]\nlevel = 7\n")
    one.process.send_signal(signal.SIGHUP)
    poll(lambda: "log.level must be text, not 7." in one.errors, "the refusal")
    assert one.ctl("-q", "ping") == ""


# -- leveret ctl against it


def test_ctl_reload_and_stop(server: Start, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("")
    one = server(arguments=["--config", str(config)])
    config.write_text("[listeners]\nbacklog = 7\n[limits]\nconnection_max = 9\n")
    text = one.ctl("reload")
    assert "limits.connection_max has changed" in text
    assert "listeners.backlog needs a restart" in text
    one.ctl("stop")
    assert one.process.wait(5) == 0


def test_ctl_administers(server: Start) -> None:
    one = server()
    status = json.loads(one.ctl("status", "--formatter", "json"))
    assert status["pid"] == one.process.pid
    one.ctl("add_vhost", "v")
    one.ctl("add_user", "u", "p")
    one.ctl("set_user_tags", "u", "monitoring")
    one.ctl("set_permissions", "-p", "v", "u", "", "w", ".*")
    one.ctl("set_policy", "p", "^q", '{"max-length": 2}', "-p", "v", "--apply-to", "queues")
    assert one.ctl("-q", "list_users") == "user\ttags\nguest\t[administrator]\nu\t[monitoring]\n"
    assert one.ctl("-q", "list_permissions", "-p", "v") == "user\tconfigure\twrite\tread\nu\t\tw\t.*\n"
    one.ctl("set_topic_permissions", "-p", "v", "u", "amq.topic", "^w", "^r")
    one.ctl("set_vhost_limits", "-p", "v", '{"max-queues": 0, "max-connections": 7}')
    one.ctl("set_user_limits", "u", '{"max-channels": 3}')
    one.restart()
    assert one.rows("list_vhost_limits", "-p", "v") == [
        {"vhost": "v", "limits": {"max-queues": 0, "max-connections": 7}}
    ]
    assert one.rows("list_user_limits", "u") == [{"user": "u", "limits": {"max-channels": 3}}]
    assert one.rows("list_topic_permissions", "-p", "v") == [
        {"user": "u", "exchange": "amq.topic", "write": "^w", "read": "^r"}
    ]
    assert one.rows("list_vhosts", "name") == [{"name": "/"}, {"name": "v"}]
    assert one.rows("list_policies", "-p", "v") == [
        {
            "vhost": "v",
            "name": "p",
            "pattern": "^q",
            "apply-to": "queues",
            "definition": '{"max-length":2}',
            "priority": 0,
        }
    ]
    one.ctl("delete_user", "u")
    one.ctl("delete_vhost", "v")
    assert one.rows("list_vhosts") == [{"name": "/"}]


def test_ctl_lists_what_clients_do(server: Start) -> None:
    one = server()
    with one.peer() as peer:
        peer.send(1, "queue.declare", queue="q", durable=True, arguments={"x-max-length": 5})
        peer.expect(1, "queue.declare-ok")
        peer.send(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="a.*")
        peer.expect(1, "queue.bind-ok")
        peer.send(1, "basic.consume", queue="q", consumer_tag="c")
        peer.expect(1, "basic.consume-ok")
        (queue,) = one.rows("list_queues", "name", "durable", "arguments", "consumers")
        assert (queue["name"], queue["durable"], queue["consumers"]) == ("q", True, 1)
        assert ["x-max-length", "signedint", 5] in queue["arguments"]
        assert [row["routing_key"] for row in one.rows("list_bindings")] == ["q", "a.*"]
        (connection,) = one.rows("list_connections", "user", "state", "channels", "client_properties")
        assert (connection["user"], connection["state"], connection["channels"]) == ("guest", "running", 1)
        (channel,) = one.rows("list_channels")
        (consumer,) = one.rows("list_consumers")
        assert channel["consumer_count"] == 1
        assert consumer["channel_pid"] == channel["pid"]
        assert (consumer["queue_name"], consumer["consumer_tag"], consumer["ack_required"]) == (
            "q",
            "c",
            True,
        )
        one.ctl("purge_queue", "q")
        one.ctl("delete_queue", "q")
        peer.goodbye()
    assert one.rows("list_queues") == []


def test_ctl_exit_statuses(server: Start) -> None:
    one = server()
    base = one.ctl_command()[3:]
    for line, status in {
        "ping": 0, "nothing": 64, "list_queues nonsense": 64, "delete_vhost nonsense": 65, "purge_queue nonsense": 65,
        "set_policy p ( {}": 65, "set_policy p a [1]": 65, "delete_user nonsense": 67, "add_user guest x": 70,
        'set_vhost_limits {"max-quues":1}': 65, "set_disk_free_limit much": 65, "authenticate_user guest guest": 0,
        "authenticate_user guest x": 65,
    }.items():  # fmt: skip
        done = leveret(*base, *line.split())
        assert (done.returncode, line) == (status, line)
        assert done.stderr.count("\n") == (0 if status == 0 else 1) or status == 64, done.stderr
    one.stop()
    assert leveret(*base, "ping").returncode == 69


def test_plugins_are_switched_for_good(server: Start) -> None:
    one = server()
    listed = {row["name"]: row for row in one.rows("plugins", "list")}
    assert (listed["tracing"]["kind"], listed["tracing"]["running"]) == ("plugin", True)
    one.ctl("trace_on")
    assert one.rows("list_vhosts", "tracing") == [{"tracing": True}]
    assert "disabled: tracing" in one.ctl("plugins", "disable", "tracing")
    assert one.rows("list_vhosts", "tracing") == [{"tracing": False}]
    done = leveret(*one.ctl_command()[3:], "trace_on")
    assert (done.returncode, done.stderr) == (70, "Error: plugin 'tracing' is not running: enable it first\n")
    one.restart()
    assert not {row["name"]: row for row in one.rows("plugins", "list")}["tracing"]["enabled"]
    assert "enabled: tracing" in leveret("plugins", *one.ctl_command()[4:], "enable", "tracing").stdout
    one.ctl("trace_on")


def test_control_socket_of_a_deep_directory(server: Start, tmp_path: Path) -> None:
    one = server(data_dir=tmp_path / ("d" * 120))
    assert one.ctl("ping").endswith("Ping succeeded\n")
    assert one.stop() == 0


def test_hangup_takes_new_certificates(server: Start, tmp_path: Path) -> None:
    def issue() -> None:
        certificate = trustme.CA().issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")

    def served() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", one.ports["amqps"])) as plain,
            context.wrap_socket(plain) as tls,
        ):
            found = tls.getpeercert(binary_form=True)
            assert found is not None
            return found

    issue()
    one = server(settings={"LEVERET_TLS_CERTFILE": str(tmp_path / "cert.pem")}, arguments=["--amqps", "0"])
    before = served()
    issue()
    assert served() == before
    one.ctl("reload")
    after = served()
    assert after != before
    (tmp_path / "cert.pem").write_text("broken")
    done = leveret(*one.ctl_command()[3:], "reload")
    assert (done.returncode, served()) == (65, after)
    assert "the TLS certificate cannot be used" in done.stderr
