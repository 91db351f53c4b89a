"""HTTP's listeners on a started server: TLS, the metrics' own port, off, and the end of it all."""

from __future__ import annotations

import array
import base64
import contextlib
import fcntl
import http.client
import json
import socket
import ssl
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from support.management import Management, control
from support.server import LeveretServer, poll

Start = Callable[..., LeveretServer]
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[trustme.CA, dict[str, str]]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(cert, append=index > 0)
    return authority, {"LEVERET_TLS_CERTFILE": str(cert), "LEVERET_TLS_KEYFILE": str(key)}


def test_over_tls(server: Start, certificates: tuple[trustme.CA, dict[str, str]]) -> None:
    authority, settings = certificates
    mine = server(settings=settings, arguments=["--https", "0"])
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = http.client.HTTPSConnection("127.0.0.1", mine.ports["https"], timeout=10, context=context)
    for path in ("overview", "exchanges", "whoami"):
        connection.request("GET", f"/api/{path}", headers=LOGIN)
        response = connection.getresponse()
        assert response.status == 200
        body = json.loads(response.read())
    assert body["name"] == "guest"
    connection.request("GET", "/api/overview", headers=LOGIN)
    listeners = json.loads(connection.getresponse().read())["listeners"]
    assert {(one["protocol"], one["tls"]) for one in listeners} >= {("https", True), ("http", False)}
    # trustme's certificates are good for centuries.
    connection.request("GET", "/api/health/checks/certificate-expiration/1/weeks", headers=LOGIN)
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.request("GET", "/api/health/checks/certificate-expiration/99999/years", headers=LOGIN)
    response = connection.getresponse()
    failed = json.loads(response.read())
    assert (response.status, failed["reason"]) == (503, "Certificates expiring")
    assert failed["expired"][0]["port"] == mine.ports["https"]
    connection.close()
    assert mine.stop() == 0
    assert "Traceback" not in mine.errors


def unread(sock: socket.socket) -> int:
    """Bytes that the kernel has received and nothing has read yet."""
    size = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, size)
    return size[0]


def test_a_large_answer_over_tls_to_a_slow_reader(
    server: Start, certificates: tuple[trustme.CA, dict[str, str]]
) -> None:
    authority, settings = certificates
    mine = server(settings=settings, arguments=["--https", "0"])
    with Management(mine.ports["http"]) as plain, mine.peer() as peer:
        for number in range(1500):
            peer.send(1, "queue.declare", queue=f"q{number}")
            peer.expect(1, "queue.declare-ok")
        expected = plain.request("GET", "/queues?columns=name,arguments,vhost,node,state,type").json
        context = ssl.create_default_context()
        authority.configure_trust(context)
        raw = socket.create_connection(("127.0.0.1", mine.ports["https"]), timeout=10)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            head = "".join(f"{name}: {value}\r\n" for name, value in LOGIN.items())
            path = "/api/queues?columns=name,arguments,vhost,node,state,type"
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n".encode())
            # The answer has begun, and does not fit into the sockets' buffers: the writer task must come.
            poll(lambda: unread(tls) > 2000, "the begin of the answer")
            received = b""
            while chunk := tls.recv(65536):
                received += chunk
        body = received.partition(b"\r\n\r\n")[2]
        assert json.loads(body) == expected
        peer.goodbye()


def test_the_metrics_port_serves_nothing_else(server: Start) -> None:
    mine = server(arguments=["--prometheus", "0"])
    connection = http.client.HTTPConnection("127.0.0.1", mine.ports["prometheus"], timeout=10)
    connection.request("GET", "/api/overview", headers=LOGIN)
    response = connection.getresponse()
    assert response.status == 404
    response.read()
    connection.close()


def test_http_can_be_off(server: Start) -> None:
    mine = server(arguments=["--http", "off"])
    assert "http" not in mine.ports
    with mine.peer() as peer:
        peer.goodbye()
    assert mine.stop() == 0
    assert "Traceback" not in mine.errors


def test_open_connections_do_not_hold_up_a_shutdown(server: Start) -> None:
    mine = server()
    port = mine.ports["http"]
    idle = Management(port)
    assert idle.get("/whoami")["name"] == "guest"
    silent = socket.create_connection(("127.0.0.1", port), timeout=10)
    half = socket.create_connection(("127.0.0.1", port), timeout=10)
    half.sendall(b"GET /api/whoami HTTP/1.1\r\nHost")
    began = time.monotonic()
    assert mine.stop() == 0
    assert time.monotonic() - began < 3
    assert "Traceback" not in mine.errors
    for sock in (silent, half):
        with contextlib.suppress(ConnectionResetError):  # what it has sent was perhaps not read
            assert sock.recv(1) == b""
        sock.close()
    idle.close()


def test_only_this_machine_may_log_in_as_guest(server: Start) -> None:
    # loopback_users hold for HTTP, too; a user who is not there at all must look the same.
    mine = server(settings={"LEVERET_AUTH_LOOPBACK_USERS": "local"})
    control(
        mine,
        ("add_user", {"username": "local", "password": "p"}),
        ("set_user_tags", {"username": "local", "tags": ["administrator"]}),
    )
    with Management(mine.ports["http"], "local", "p") as client:
        assert client.get("/whoami")["name"] == "local"
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    outside = next((str(one) for one in addresses if not str(one).startswith("127.")), None)
    if outside is None:
        pytest.skip("this machine has no address but the loopback's")
    other = server(settings={"LEVERET_AUTH_LOOPBACK_USERS": "guest"}, arguments=["--bind", outside])
    with Management(other.ports["http"], host=outside) as client:
        answer = client.request("GET", "/whoami")
        assert (answer.status, answer.json["error"]) == (401, "not_authorized")
    assert "can only connect via localhost" in other.errors


def test_connections_leave_no_file_open(server: Start) -> None:
    mine = server()
    port = mine.ports["http"]
    with Management(port) as client:
        client.get("/overview")
    before = len(mine.open_files())
    for number in range(20):
        with Management(port) as client:
            client.get("/whoami")
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        sock.sendall(b"GET /api/overview HTTP/1.1\r\n"[: number + 1])
        sock.close()
    poll(lambda: len(mine.open_files()) <= before, "the files to be closed")
    assert "Traceback" not in mine.errors
