"""MQTT and STOMP throughput, and memory per idle MQTT connection, of any broker: raw sockets, standard library only.

usage: adapters_bench.py [--mqtt PORT] [--stomp PORT] [--user guest] [--password guest] [--pid PID] [--idle 1000] [--scale 1]

Without ports it starts a Leveret of its own. One number a line: name, value, unit.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

Arguments = argparse.Namespace
READ = 1 << 18


def string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def packet(first: int, body: bytes) -> bytes:
    size, head = len(body), bytearray((first,))
    while True:
        size, low = size >> 7, size & 0x7F
        head.append(low | (0x80 if size else 0))
        if not size:
            return bytes(head) + body


def mqtt(arguments: Arguments, client_id: str, *filters: tuple[str, int]) -> socket.socket:
    """A connection (3.1.1, clean), subscribed."""
    sock = socket.create_connection(("127.0.0.1", arguments.mqtt), 20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    login = string(arguments.user) + string(arguments.password) if arguments.user else b""
    flags = 0xC2 if arguments.user else 2
    body = string("MQTT") + bytes((4, flags)) + (600).to_bytes(2, "big") + string(client_id) + login
    sock.sendall(packet(0x10, body))
    if sock.recv(4) != b"\x20\x02\x00\x00":
        sys.exit("CONNECT was refused")
    for text, qos in filters:
        sock.sendall(packet(0x82, b"\x00\x01" + string(text) + bytes((qos,))))
        sock.recv(5)
    sock.settimeout(60)
    return sock


def drain(sock: socket.socket, size: int, ack: Callable[[bytes], bytes] | None = None) -> None:
    """Read that many bytes; what `ack` makes of each chunk goes back."""
    while size > 0:
        chunk = sock.recv(READ)
        if not chunk:
            sys.exit("the broker closed the connection")
        size -= len(chunk)
        if ack is not None:
            sock.sendall(ack(chunk))


def mqtt_qos0(arguments: Arguments, count: int, subscribers: int) -> float:
    """Deliveries per second of one publisher to so many subscribers."""
    message = packet(0x30, string("bench/listeners") + b"x" * 16)
    socks = [mqtt(arguments, f"sub{number}", ("bench/+", 0)) for number in range(subscribers)]
    threads = [threading.Thread(target=drain, args=(sock, count * len(message))) for sock in socks]
    publisher = mqtt(arguments, "pub")
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    batch = max(1, 16384 // len(message) // max(1, subscribers // 5))
    for sent in range(0, count, batch):
        publisher.sendall(message * min(batch, count - sent))
        if subscribers > 1:
            time.sleep(0.001)  # QoS 0: who floods, loses
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    for sock in [*socks, publisher]:
        sock.close()
    return count * subscribers / took


def mqtt_qos1(arguments: Arguments, count: int, window: int = 200) -> float:
    """Published, acknowledged, delivered and acknowledged again, with so many in flight."""
    subscriber = mqtt(arguments, "sub", ("bench/+", 1))
    publisher = mqtt(arguments, "pub")
    head, payload = string("bench/listeners"), b"x" * 16
    size = 2 + len(head) + 2 + len(payload)
    rest = b""

    def acks(chunk: bytes) -> bytes:
        nonlocal rest
        data, out = rest + chunk, []
        whole = len(data) // size
        for number in range(whole):
            at = number * size + 2 + len(head)
            out.append(b"\x40\x02" + data[at : at + 2])
        rest = data[whole * size :]
        return b"".join(out)

    reader = threading.Thread(target=drain, args=(subscriber, count * size, acks))
    start = time.perf_counter()
    reader.start()
    for first in range(0, count, window):
        ids = range(first % 60000 + 1, first % 60000 + 1 + min(window, count - first))
        publisher.sendall(b"".join([packet(0x32, head + one.to_bytes(2, "big") + payload) for one in ids]))
        drain(publisher, 4 * len(ids))
    reader.join()
    took = time.perf_counter() - start
    subscriber.close()
    publisher.close()
    return count / took


def stomp(arguments: Arguments) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", arguments.stomp), 20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    login = f"login:{arguments.user}\npasscode:{arguments.password}\n"
    sock.sendall(f"CONNECT\naccept-version:1.2\nhost:/\n{login}heart-beat:0,0\n\n\0".encode())
    if not sock.recv(4096).startswith(b"CONNECTED"):
        sys.exit("CONNECT was refused")
    sock.settimeout(60)
    return sock


def stomp_auto(arguments: Arguments, count: int) -> float:
    consumer, producer = stomp(arguments), stomp(arguments)
    consumer.sendall(b"SUBSCRIBE\nid:0\ndestination:/queue/listeners-bench\nack:auto\nreceipt:s\n\n\0")
    consumer.recv(4096)
    frame = b"SEND\ndestination:/queue/listeners-bench\n\n" + b"x" * 16 + b"\0"
    start = time.perf_counter()
    sender = threading.Thread(target=producer.sendall, args=(frame * count,))
    sender.start()
    seen = 0
    while seen < count:
        seen += consumer.recv(READ).count(b"\0")
    took = time.perf_counter() - start
    sender.join()
    consumer.close()
    producer.close()
    return count / took


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def idle(arguments: Arguments) -> float:
    """KiB per connection with one subscription."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, arguments.idle + 200), hard))
    warm = [mqtt(arguments, f"warm{number}", (f"warm/{number}", 0)) for number in range(20)]
    before = resident_kib(arguments.pid)
    socks = [mqtt(arguments, f"idle{number}", (f"idle/{number}", 0)) for number in range(arguments.idle)]
    time.sleep(1)
    grown = resident_kib(arguments.pid) - before
    for sock in [*warm, *socks]:
        sock.close()
    return grown / arguments.idle


@contextlib.contextmanager
def leveret() -> Iterator[tuple[dict[str, int], int]]:
    """A server of our own: its ports and process id."""
    listeners = ("amqp", "http", "prometheus", "web-stomp", "web-mqtt")
    off = [part for listener in listeners for part in (f"--{listener}", "off")]
    with tempfile.TemporaryDirectory() as data:
        command = [
            sys.executable,
            "-m",
            "leveret",
            "serve",
            "--data-dir",
            data,
            "--mqtt",
            "0",
            "--stomp",
            "0",
            *off,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        ready = process.stdout.readline()
        try:
            yield {name: int(port) for name, port in re.findall(r"(\w+)=[^ ]*?:(\d+)", ready)}, process.pid
        finally:
            process.terminate()
            process.wait()


def run(arguments: Arguments) -> None:
    scale = arguments.scale
    if arguments.mqtt and arguments.pid:  # first: what has been busy keeps memory for later
        print(f"mqtt_memory_per_idle_connection {idle(arguments):.1f} KiB", flush=True)
    if arguments.mqtt:
        print(f"mqtt_qos0 {mqtt_qos0(arguments, int(200000 * scale), 1):.0f} msg/s", flush=True)
        print(f"mqtt_qos0_50_subscribers {mqtt_qos0(arguments, int(4000 * scale), 50):.0f} msg/s", flush=True)
        print(f"mqtt_qos1 {mqtt_qos1(arguments, int(50000 * scale)):.0f} msg/s", flush=True)
    if arguments.stomp:
        print(f"stomp_auto {stomp_auto(arguments, int(200000 * scale)):.0f} msg/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, kind, default in (("mqtt", int, 0), ("stomp", int, 0), ("pid", int, 0), ("idle", int, 1000),
                                ("scale", float, 1.0), ("user", str, "guest"), ("password", str, "guest")):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    arguments = parser.parse_args()
    if arguments.mqtt or arguments.stomp:
        run(arguments)
        return
    with leveret() as (ports, pid):
        arguments.mqtt, arguments.stomp, arguments.pid = ports["mqtt"], ports["stomp"], pid
        run(arguments)


if __name__ == "__main__":
    main()
