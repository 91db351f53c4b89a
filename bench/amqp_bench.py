"""Leveret, or any AMQP 0-9-1 broker, measured: one number a line, `name value unit`.

python bench/amqp_bench.py                           starts a Leveret of its own, all scenarios
python bench/amqp_bench.py --port 5672               what is running there (no memory, no start time)
python bench/amqp_bench.py --start 'bench/start_rabbitmq {port} {data}' --pid-file '{data}/pid'
python bench/amqp_bench.py --only durable --scale 0.2
python bench/amqp_bench.py --backlog 5000000         queue length, memory and restart instead
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from raw_client import Connection

QUEUE = "bench"
BUFFER_BYTES = 1 << 18
START_TIMEOUT_S = 120.0
OWN = f"{shlex.quote(sys.executable)} -m leveret serve --data-dir {{data}} --amqp {{port}}" + "".join(
    f" --{listener} off" for listener in ("mqtt", "stomp", "http", "prometheus", "web-stomp", "web-mqtt")
)


def show(name: str, value: float, unit: str) -> None:
    digits = 0 if abs(value) >= 100 else 2
    print(f"{name} {value:.{digits}f} {unit}", flush=True)


# -- the broker


class Broker:
    """The broker under measurement: started here, or only known by its port."""

    def __init__(self, port: int, command: str | None, data: Path, pid_file: str | None) -> None:
        self.port = port
        self._command = command
        self._data = data
        self._pid_file = Path(pid_file.format(data=data)) if pid_file else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_ours(self) -> bool:
        return self._command is not None

    def start(self) -> float:
        """Seconds until it answers."""
        assert self._command is not None
        command = shlex.split(self._command.format(port=self.port, data=self._data))
        began = time.perf_counter()
        with open(self._data.parent / "broker.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while time.perf_counter() - began < START_TIMEOUT_S:
            try:
                Connection(self.port).close()
            except (OSError, RuntimeError):
                if self._process.poll() is not None:
                    break
                time.sleep(0.005)
            else:
                return time.perf_counter() - began
        raise SystemExit(f"the broker did not start: {self._data.parent / 'broker.log'}")

    def stop(self) -> None:
        if self._process is None:
            return
        for pid in {self.pid, self._process.pid}:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        self._process.wait(60)
        self._process = None

    @property
    def pid(self) -> int:
        if self._pid_file is not None and self._pid_file.exists():
            return int(self._pid_file.read_text())
        assert self._process is not None
        return self._process.pid

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def data_bytes(self) -> int:
        """What the data directory takes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self._data.rglob("*") if path.is_file())


# -- scenarios of throughput


@dataclass(frozen=True)
class Load:
    """messages in all, body bytes; confirm: window, 0 for none; ack_every: 0 for no_ack."""

    messages: int
    size: int = 16
    producers: int = 1
    consumers: int = 1
    ack_every: int = 1
    prefetch: int = 500
    persistent: bool = False
    confirm: int = 0
    drain: bool = False

    def scaled(self, scale: float) -> Load:
        count = max(int(self.messages * scale) // (4 * 50) * 200, 200)
        return Load(**{**self.__dict__, "messages": count})


LOADS = {
    "transient_autoack_16B": Load(300_000, ack_every=0),
    "transient_ack_each_16B": Load(200_000),
    "transient_4p_4c_ack_each_16B": Load(200_000, producers=4, consumers=4),
    "transient_ack_per_50_1KiB": Load(150_000, 1024, ack_every=50),
    "transient_ack_per_50_64KiB": Load(10_000, 65536, ack_every=50),
    "durable_confirm_window_200_1KiB": Load(60_000, 1024, persistent=True, confirm=200),
    "durable_confirm_each_16B": Load(3_000, persistent=True, confirm=1),
    "publish_then_drain_16B": Load(200_000, ack_every=50, drain=True),
}


def produce(port: int, load: Load, count: int, pipe: Pipe) -> None:
    """A producer's process: waits for the word, publishes, tells begin and end."""
    with Connection(port) as connection:
        if load.confirm:
            connection.select_confirms()
        one = connection.publish_bytes(QUEUE, b"x" * load.size, persistent=load.persistent)
        batch = load.confirm or max(BUFFER_BYTES // len(one), 1)
        many = one * batch
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        if load.confirm:
            sent = confirmed = 0
            while confirmed < count:
                room = min(load.confirm - (sent - confirmed), count - sent)
                if room:
                    connection.socket.sendall(many[: room * len(one)])
                    sent += room
                confirmed = connection.wait_confirmed(confirmed)
        else:
            for _ in range(count // batch):
                connection.socket.sendall(many)
            connection.socket.sendall(one * (count % batch))
            connection.fence()
        pipe.send((began, time.perf_counter()))


def consume(port: int, load: Load, total: multiprocessing.sharedctypes.Synchronized[int], pipe: Pipe) -> None:
    """A consumer's process: counts and acks until all consumers together have everything."""
    with Connection(port) as connection:
        if load.ack_every:
            connection.qos(load.prefetch)
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        deliveries = connection.consume(QUEUE, no_ack=not load.ack_every)
        acked = seen = 0
        ended = began
        connection.socket.settimeout(0.2)
        while total.value < load.messages:
            try:
                received = deliveries.wait()
            except TimeoutError:
                continue
            if received == seen:
                continue
            ended = time.perf_counter()
            with total.get_lock():
                total.value += received - seen
                is_last = total.value >= load.messages
            seen = received
            if load.ack_every == 1:
                connection.socket.sendall(connection.acks_bytes(acked + 1, received))
                acked = received
            elif load.ack_every and (received - acked >= load.ack_every or is_last):
                acked = received
                connection.socket.sendall(connection.ack_bytes(acked))
        if load.ack_every:
            connection.socket.settimeout(30)
            connection.qos(0)
        pipe.send((began, ended))


class Group:
    """Processes that wait for one word and report once."""

    def __init__(self, target: Callable[..., None], arguments: list[tuple[object, ...]]) -> None:
        self._pipes = []
        self._processes = []
        for each in arguments:
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=target, args=(*each, theirs))
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def go(self) -> None:
        for pipe in self._pipes:
            pipe.send("go")

    def times(self) -> tuple[float, float]:
        """First begin and last end."""
        reports = [pipe.recv() for pipe in self._pipes]
        for process in self._processes:
            process.join()
        return min(begin for begin, _ in reports), max(end for _, end in reports)


def run_load(broker: Broker, name: str, load: Load) -> None:
    with Connection(broker.port) as connection:
        connection.declare(QUEUE, durable=load.persistent)
        total = multiprocessing.Value("q", 0)
        producers = Group(produce, [(broker.port, load, load.messages // load.producers)] * load.producers)
        consumers = Group(consume, [(broker.port, load, total)] * load.consumers)
        if load.drain:
            producers.go()
            began, ended = producers.times()
            show(f"{name}_publish", load.messages / (ended - began), "msg/s")
            consumers.go()
            began, ended = consumers.times()
            show(f"{name}_drain", load.messages / (ended - began), "msg/s")
        else:
            consumers.go()
            producers.go()
            began, _ = producers.times()
            _, ended = consumers.times()
            show(name, load.messages / (ended - began), "msg/s")
        if left := connection.count(QUEUE):
            raise SystemExit(f"{name}: {left} messages are left in the queue")
        connection.delete(QUEUE)


# -- latency, memory, start, backlog


def run_latency(broker: Broker, scale: float, rate: int = 2000) -> None:
    """One message at a time, evenly, from one process to itself over two connections."""
    count = max(int(8000 * scale), 500)
    with Connection(broker.port) as sender, Connection(broker.port) as receiver:
        sender.declare(QUEUE)
        deliveries = receiver.consume(QUEUE, no_ack=True)
        receiver.socket.setblocking(False)
        one = sender.publish_bytes(QUEUE, b"x" * 16, persistent=False)
        due: list[float] = []
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < count:
            now = time.perf_counter()
            if len(due) < count and now >= began + len(due) / rate:
                due.append(now)
                sender.socket.sendall(one)
            try:
                received = deliveries.wait()
            except BlockingIOError:
                continue
            now = time.perf_counter()
            taken.extend(now - due[number] for number in range(len(taken), received))
        sender.delete(QUEUE)
    taken.sort()
    for percent in (50, 99):
        show(f"latency_p{percent}_at_{rate}", taken[int(count * percent / 100)] * 1000, "ms")


def run_memory(broker: Broker, count: int) -> None:
    """Resident memory of connections with one open channel, and of declared queues, that do nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, count + 200), hard), hard))
    idle = [Connection(broker.port) for _ in range(20)]
    before = broker.rss_kib()
    idle += [Connection(broker.port) for _ in range(count)]
    time.sleep(1)
    show("memory_per_idle_connection", (broker.rss_kib() - before) / count, "KiB")
    for connection in idle[1:]:
        connection.close()
    time.sleep(1)
    before = broker.rss_kib()
    for number in range(count):
        idle[0].declare(f"{QUEUE}.{number}", durable=True)
    show("memory_per_idle_queue", max(broker.rss_kib() - before, 0) / count, "KiB")
    for number in range(count):
        idle[0].delete(f"{QUEUE}.{number}")
    idle[0].close()


def run_backlog(broker: Broker, count: int, size: int) -> None:
    """A queue of persistent messages: filling it, its memory, starting with it, emptying it."""
    before = broker.rss_kib()
    show("backlog_messages", count, "msg")
    load = Load(count, size, persistent=True, confirm=1000, ack_every=200, prefetch=1000)
    with Connection(broker.port) as connection:
        connection.declare(QUEUE, durable=True)
    producers = Group(produce, [(broker.port, load, count)])
    producers.go()
    began, ended = producers.times()
    show("backlog_publish", count / (ended - began), "msg/s")
    show("backlog_memory", (broker.rss_kib() - before) / 1024, "MiB")
    show("backlog_disk", broker.data_bytes() / (1 << 20), "MiB")
    began = time.perf_counter()
    broker.stop()
    show("backlog_stop", time.perf_counter() - began, "s")
    show("backlog_restart", broker.start(), "s")
    with Connection(broker.port) as connection:
        if (left := connection.count(QUEUE)) != count:
            raise SystemExit(f"{left} of {count} messages are left after the restart")
        show("backlog_memory_after_restart", broker.rss_kib() / 1024, "MiB")
        total = multiprocessing.Value("q", 0)
        consumers = Group(consume, [(broker.port, load, total)])
        consumers.go()
        began, ended = consumers.times()
        show("backlog_drain", count / (ended - began), "msg/s")
        connection.delete(QUEUE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="measure what listens there; start nothing")
    parser.add_argument("--start", default=OWN, help="the command, with {port} and {data}")
    parser.add_argument("--pid-file", help="where the broker's process id is, if it is not the command's own")
    parser.add_argument("--only", default="", help="scenarios whose names contain one of these, by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of messages")
    parser.add_argument("--idle", type=int, default=1000, help="idle connections and queues for memory")
    parser.add_argument("--backlog", type=int, default=0, metavar="N", help="only a queue of N messages")
    parser.add_argument("--size", type=int, default=1024, help="body bytes of the backlog's messages")
    options = parser.parse_args()
    wanted = [word for word in options.only.split(",") if word]

    def is_wanted(name: str) -> bool:
        return not wanted or any(word in name for word in wanted)

    directory = Path(tempfile.mkdtemp(prefix="amqp-bench-"))
    data = directory / "data"
    data.mkdir(mode=0o777)
    os.chmod(directory, 0o755)
    command = None if options.port else options.start
    broker = Broker(options.port or free_port(), command, data, options.pid_file)
    try:
        if broker.is_ours:
            took = broker.start()
            if is_wanted("start"):
                show("start", took, "s")
        if options.backlog:
            if not broker.is_ours:
                raise SystemExit(
                    "--backlog restarts the broker, so it must be started here: leave out --port"
                )
            run_backlog(broker, options.backlog, options.size)
            return
        if broker.is_ours and is_wanted("memory"):  # first: later the allocator has room to give away
            run_memory(broker, options.idle)
        for name, load in LOADS.items():
            if is_wanted(name):
                run_load(broker, name, load.scaled(options.scale))
        if is_wanted("latency"):
            run_latency(broker, options.scale)
    finally:
        broker.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
