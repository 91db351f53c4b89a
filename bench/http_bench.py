"""The HTTP listener: publishing by REST (needs wrk), webhooks out, and AMQP beside a thousand idle event streams.

usage: http_bench.py [--only sse,rest,webhooks] [--streams 1000] [--seconds 5] [--webhooks 20000]

Starts a Leveret of its own. One number a line: name, value, unit.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOGIN = "Basic " + base64.b64encode(b"guest:guest").decode()
PUBLISH = f"""
wrk.method = "POST"
wrk.body = "hello world"
wrk.headers["Authorization"] = "{LOGIN}"
wrk.headers["Content-Type"] = "text/plain"
"""
RECEIVER = HERE / "fast_receiver.py"


class Broker:
    """A Leveret of our own."""

    def __init__(self, amqp: int, http: int, pid: int) -> None:
        self.amqp = amqp
        self.http = http
        self.pid = pid

    def call(self, method: str, path: str, value: object = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}",
            body,
            {"Authorization": LOGIN, "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextlib.contextmanager
def leveret() -> Iterator[Broker]:
    off = [
        part
        for listener in ("mqtt", "stomp", "prometheus", "web-stomp", "web-mqtt")
        for part in (f"--{listener}", "off")
    ]
    with tempfile.TemporaryDirectory() as data:
        config = Path(data) / "leveret.toml"
        config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
        command = [
            sys.executable, "-m", "leveret", "serve", "--config", str(config), "--data-dir", f"{data}/store",
            "--amqp", "0", "--http", "0", "--log-level", "error", *off,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        ports = dict(re.findall(r"(\w+)=[^ ]*?:(\d+)", process.stdout.readline()))
        try:
            yield Broker(int(ports["amqp"]), int(ports["http"]), process.pid)
        finally:
            process.terminate()
            process.wait()


def show(name: str, value: float, unit: str, digits: int = 0) -> None:
    print(f"{name} {value:.{digits}f} {unit}", flush=True)


def rest(broker: Broker, seconds: int) -> None:
    """32 connections, kept alive."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    for name, durable in (("transient", False), ("durable", True)):
        broker.call(
            "PUT", f"/api/queues/%2F/rest-{name}", {"durable": durable, "arguments": {"x-max-length": 10_000}}
        )
        path = f"http://127.0.0.1:{broker.http}/v1/queues/%2F/rest-{name}/messages"
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(PUBLISH)
            script.flush()
            before = broker.cpu_seconds()
            command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", script.name, path]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            used = broker.cpu_seconds() - before
        if "Non-2xx" in output:
            sys.exit(output)
        count = int(re.findall(r"(\d+) requests in", output)[0])
        show(f"rest_publish_{name}", float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0]), "requests/s")
        show(f"rest_publish_{name}_cpu", used / count * 1e6, "us")
        broker.call("DELETE", f"/api/queues/%2F/rest-{name}")


def amqp(broker: Broker) -> float:
    command = [
        sys.executable,
        str(HERE / "amqp_bench.py"),
        "--port",
        str(broker.amqp),
        "--only",
        "transient_ack_each",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[1])


def sse(broker: Broker, count: int, seconds: int) -> None:
    """AMQP without and with idle streams, in turn."""
    broker.call("PUT", "/api/queues/%2F/sse", {"durable": True})
    request = f"GET /v1/queues/%2F/sse/events HTTP/1.1\r\nHost: x\r\nAuthorization: {LOGIN}\r\n\r\n".encode()
    for turn in (1, 2, 3):
        show(f"amqp_alone_{turn}", amqp(broker), "msg/s")
        before, socks = broker.resident_kib(), []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", broker.http))
            sock.sendall(request)
            socks.append(sock)
        for sock in socks:
            if b" 200 " not in sock.recv(100):
                sys.exit("an event stream was refused")
        grown = broker.resident_kib() - before
        idle_from = broker.cpu_seconds()
        time.sleep(seconds)
        used = (broker.cpu_seconds() - idle_from) / seconds
        show(f"amqp_beside_{count}_streams_{turn}", amqp(broker), "msg/s")
        for sock in socks:
            sock.close()
        if turn == 1:  # later ones find room that was given back
            show("memory_per_stream", grown / count, "KiB", 1)
            show("streams_cpu", used * 1000, "ms/s", 1)
    broker.call("DELETE", "/api/queues/%2F/sse")


def webhooks(broker: Broker, count: int) -> None:
    """From a durable queue, signed, each settled after its answer."""
    with subprocess.Popen([sys.executable, str(RECEIVER)], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        url = f"http://127.0.0.1:{int(receiver.stdout.readline())}/"
        try:
            for name, order_by in (("unordered", ""), ("by_key", "routing_key")):
                where = f"/v1/webhooks/%2F/bench-{name}"
                broker.call("PUT", where, {"url": url, "exchange": "amq.fanout", "order_by": order_by})
                began = time.perf_counter()
                for first in range(0, count, 500):
                    messages = [
                        {
                            "routing_key": f"k{number % 1000}",
                            "payload": "x" * 500,
                            "properties": {"delivery_mode": 2},
                        }
                        for number in range(first, min(count, first + 500))
                    ]
                    broker.call("POST", "/v1/exchanges/%2F/amq.fanout/messages/batch", {"messages": messages})
                while broker.call("GET", where)["delivered_total"] < count:
                    time.sleep(0.1)
                show(f"webhooks_{name}", count / (time.perf_counter() - began), "deliveries/s")
                broker.call("DELETE", where)
        finally:
            receiver.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="sse,rest,webhooks")
    for name, default in (("streams", 1000), ("seconds", 5), ("webhooks", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    with leveret() as broker:
        if "sse" in wanted:  # first: what has been busy keeps memory for later
            sse(broker, arguments.streams, arguments.seconds)
        if "rest" in wanted:
            rest(broker, arguments.seconds)
        if "webhooks" in wanted:
            webhooks(broker, arguments.webhooks)


if __name__ == "__main__":
    main()
