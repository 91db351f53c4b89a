"""Real clients against the real server: paho-mqtt, amqtt's client, mosquitto_pub and mosquitto_sub."""

# mypy: disable-error-code="no-untyped-call,attr-defined"
# paho sets the names of MQTT's properties at run time, without annotations.
from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from amqtt.client import MQTTClient
from e2e.mqtt.mqtt_broker import MqttReference, leveret_only, mosquitto_differs
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from support.mqtt_peer import MqttPeer
from support.programs import program
from support.server import LeveretServer, poll

Client = Callable[..., MqttPeer]
Broker = LeveretServer | MqttReference

TIMEOUT_S = 10


# paho-mqtt


class Paho:
    """A paho client whose callbacks go into queues."""

    def __init__(self, port: int, protocol: MQTTProtocolVersion, client_id: str, **login: Any) -> None:
        options: dict[str, Any] = (
            {} if protocol == paho.MQTTv5 else {"clean_session": login.pop("clean_start", True)}
        )
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=protocol, **options)
        self.client.username_pw_set("guest", "guest")
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.connected: queue.Queue[tuple[bool, Any, Any]] = queue.Queue()
        self.subscribed: queue.Queue[list[Any]] = queue.Queue()
        self.ended: queue.Queue[Any] = queue.Queue()
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_connect = lambda client, data, flags, reason, properties: self.connected.put(
            (flags.session_present, reason, properties)
        )
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self.subscribed.put(reasons)
        self.client.on_disconnect = lambda client, data, flags, reason, properties: self.ended.put(reason)
        if will := login.pop("will", None):
            self.client.will_set(*will)
        self.client.connect("127.0.0.1", port, **login)
        self.client.loop_start()
        self.session_present, reason, self.properties = self.connected.get(timeout=TIMEOUT_S)
        assert not reason.is_failure, reason

    def subscribe(self, *arguments: Any, **options: Any) -> list[int]:
        self.client.subscribe(*arguments, **options)
        return [reason.value for reason in self.subscribed.get(timeout=TIMEOUT_S)]

    def publish(self, topic: str, payload: bytes, qos: int = 0, **options: Any) -> None:
        self.client.publish(topic, payload, qos, **options).wait_for_publish(TIMEOUT_S)

    def message(self) -> paho.MQTTMessage:
        return self.messages.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def open_paho(broker: Broker, name: str, client: Client) -> Iterator[Callable[..., Paho]]:
    clients: list[Paho] = []

    def open_paho(protocol: MQTTProtocolVersion, client_id: str | None = None, **login: Any) -> Paho:
        clients.append(Paho(broker.ports["mqtt"], protocol, client_id or f"{name}-p{len(clients)}", **login))
        return clients[-1]

    yield open_paho
    for each in clients:
        each.close()
    for client_id in {each.client._client_id.decode() for each in clients}:
        client(5, client_id).disconnect()  # ends its session


PROTOCOLS = pytest.mark.parametrize(
    "protocol", [paho.MQTTv31, paho.MQTTv311, paho.MQTTv5], ids=["v3.1", "v3.1.1", "v5"]
)


@PROTOCOLS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_publishes_and_receives(
    open_paho: Callable[..., Paho], name: str, protocol: MQTTProtocolVersion, qos: int
) -> None:
    subscriber, publisher = open_paho(protocol), open_paho(protocol)
    assert subscriber.subscribe(f"{name}/#", qos) == [qos]
    for number in range(50):
        publisher.publish(f"{name}/{number}", b"%d" % number, qos)
    for number in range(50):
        message = subscriber.message()
        assert (message.topic, message.payload, message.qos) == (f"{name}/{number}", b"%d" % number, qos)


@PROTOCOLS
def test_paho_comes_back_to_its_session(
    open_paho: Callable[..., Paho], name: str, protocol: MQTTProtocolVersion
) -> None:
    login: dict[str, Any] = {"clean_start": False}
    if protocol == paho.MQTTv5:
        login["properties"] = Properties(PacketTypes.CONNECT)
        login["properties"].SessionExpiryInterval = 600
    first = open_paho(protocol, name, **login)
    first.subscribe(f"{name}/t", 2)
    first.close()
    publisher = open_paho(protocol)
    for number in range(20):
        publisher.publish(f"{name}/t", b"%d" % number, 1 + number % 2)
    second = open_paho(protocol, name, **login)
    assert second.session_present == (protocol != paho.MQTTv31)
    found: dict[int, list[int]] = {1: [], 2: []}  # paho shows a QoS 2 message when PUBREL has come
    for _ in range(20):
        message = second.message()
        found[message.qos].append(int(message.payload))
    assert found == {1: list(range(0, 20, 2)), 2: list(range(1, 20, 2))}


def test_pahos_will_and_retained_message(open_paho: Callable[..., Paho], client: Client, name: str) -> None:
    watcher = open_paho(paho.MQTTv5)
    watcher.subscribe(f"{name}/+", 1)
    for protocol in (paho.MQTTv31, paho.MQTTv311, paho.MQTTv5):
        topic = f"{name}/{protocol}"
        client().retained.add(topic)
        lost = open_paho(protocol, will=(topic, b"gone", 1, True))
        lost.client.on_disconnect = None
        sock = lost.client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        lost.client.disconnect()
    assert {watcher.message().topic for _ in range(3)} == {f"{name}/{number}" for number in (3, 4, 5)}
    late = open_paho(paho.MQTTv311)
    late.subscribe(f"{name}/+", 1)
    assert [late.message().retain for _ in range(3)] == [True] * 3


def test_paho_with_everything_of_version_5(open_paho: Callable[..., Paho], name: str) -> None:
    subscriber, publisher = open_paho(paho.MQTTv5), open_paho(paho.MQTTv5)
    identifier = Properties(PacketTypes.SUBSCRIBE)
    identifier.SubscriptionIdentifier = 42
    options = SubscribeOptions(qos=2, noLocal=True, retainAsPublished=True, retainHandling=1)
    assert subscriber.subscribe(f"{name}/#", options=options, properties=identifier) == [2]
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.ResponseTopic = f"{name}/answer"
    properties.CorrelationData = b"\0\1"
    properties.MessageExpiryInterval = 60
    properties.PayloadFormatIndicator = 1
    properties.UserProperty = [("a", "1"), ("a", "2")]
    properties.TopicAlias = 3
    publisher.publish(f"{name}/t", b"x", 1, properties=properties)
    found = subscriber.message().properties
    assert found is not None
    assert found.ContentType == "text/plain"
    assert found.ResponseTopic == f"{name}/answer"
    assert found.CorrelationData == b"\0\1"
    assert found.MessageExpiryInterval in (59, 60)
    assert found.UserProperty == [("a", "1"), ("a", "2")]
    assert found.SubscriptionIdentifier == [42]


@leveret_only("Mosquitto is run without users")
def test_paho_is_refused(broker: LeveretServer) -> None:
    refused: queue.Queue[Any] = queue.Queue()
    for protocol in (paho.MQTTv31, paho.MQTTv311, paho.MQTTv5):
        client = paho.Client(CallbackAPIVersion.VERSION2, "x", protocol=protocol)
        client.username_pw_set("guest", "wrong")
        client.on_connect = lambda client, data, flags, reason, properties: refused.put(reason)
        client.connect("127.0.0.1", broker.ports["mqtt"])
        while refused.empty():
            client.loop(0.1)
        reason = refused.get()
        client.disconnect()
        assert reason.is_failure
        assert reason.getName() in ("Bad user name or password", "Not authorized")


@mosquitto_differs("drops what is over its 1000 queued")
def test_many_pahos_at_once(open_paho: Callable[..., Paho], name: str) -> None:
    """Two publish at QoS 2 and one at QoS 1, each in a thread of its own, to three subscribers."""
    subscribers = [open_paho(protocol) for protocol in (paho.MQTTv31, paho.MQTTv311, paho.MQTTv5)]
    for subscriber in subscribers:
        subscriber.subscribe(f"{name}/+", 2)
    publishers = [open_paho(paho.MQTTv5) for _ in range(3)]

    def publish(number: int) -> None:
        infos = [
            publishers[number].client.publish(f"{name}/{number}", b"%d" % count, 2 - number // 2)
            for count in range(200)
        ]
        for info in infos:
            info.wait_for_publish(TIMEOUT_S)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for subscriber in subscribers:
        found: dict[str, list[int]] = {}
        for _ in range(600):
            message = subscriber.message()
            found.setdefault(message.topic, []).append(int(message.payload))
        assert found == {f"{name}/{number}": list(range(200)) for number in range(3)}
        assert subscriber.messages.empty()


# amqtt


def test_amqtt(broker: Broker, name: str) -> None:
    async def talk() -> None:
        url = f"mqtt://guest:guest@127.0.0.1:{broker.ports['mqtt']}/"
        options = {"auto_reconnect": False}
        subscriber, publisher = MQTTClient(f"{name}-s", options), MQTTClient(f"{name}-p", options)
        await subscriber.connect(url)
        await publisher.connect(url)
        assert await subscriber.subscribe([(f"{name}/+", 2), (f"{name}/a/#", 1)]) == [2, 1]
        for qos in (0, 1, 2):
            await publisher.publish(f"{name}/{qos}", b"x%d" % qos, qos=qos)
            message = await subscriber.deliver_message(timeout_duration=TIMEOUT_S)
            assert message is not None
            assert (message.topic, bytes(message.data or b""), message.qos) == (
                f"{name}/{qos}",
                b"x%d" % qos,
                qos,
            )
        await subscriber.unsubscribe([f"{name}/+"])
        await subscriber.ping()
        await subscriber.disconnect()
        await publisher.disconnect()

    asyncio.run(asyncio.wait_for(talk(), 30))


# Mosquitto's

VERSIONS = pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])


class Mosquitto:
    def __init__(self, port: int, version: str) -> None:
        self.common = ["-h", "127.0.0.1", "-p", str(port), "-u", "guest", "-P", "guest", "-V", version]

    def publish(self, *arguments: str, **options: Any) -> None:
        done = subprocess.run(
            [program("mosquitto_pub", "mosquitto-clients"), *self.common, *arguments],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            **options,
        )
        assert (done.returncode, done.stderr) == (0, b""), done

    def subscribe(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Until it ends by itself: -E, or -C and -W."""
        return subprocess.run(
            [program("mosquitto_sub", "mosquitto-clients"), *self.common, *arguments],
            capture_output=True,
            timeout=TIMEOUT_S * 2,
            check=False,
        )

    @contextlib.contextmanager
    def subscriber(self, prober: MqttPeer, probe: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs beside the test, which waits until somebody (5.0 3.4.2.1) is subscribed to the topic `probe`."""
        process = subprocess.Popen(
            [
                program("mosquitto_sub", "mosquitto-clients"),
                *self.common,
                *arguments,
                "-t",
                probe,
                "-T",
                probe,
            ],
            stdout=subprocess.PIPE,
        )
        late = threading.Timer(TIMEOUT_S, process.kill)
        late.start()
        try:
            poll(lambda: prober.publish(probe).code == 0, "mosquitto_sub has not subscribed")
            yield process
        finally:
            late.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def lines(process: subprocess.Popen[bytes]) -> list[bytes]:
    """What it wrote until it ended."""
    assert process.stdout is not None
    return process.stdout.read().splitlines()


@VERSIONS
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_pub_and_sub(broker: Broker, client: Client, name: str, version: str, qos: str) -> None:
    mosquitto = Mosquitto(broker.ports["mqtt"], version)
    with mosquitto.subscriber(
        client(), f"{name}-probe", "-t", f"{name}/#", "-q", qos, "-C", "3", "-F", "%t %q %r %p"
    ) as process:
        mosquitto.publish("-t", f"{name}/l", "-q", qos, "-l", input=b"1\n2\n3\n")
        assert lines(process) == [
            b"%s/l %s 0 %d" % (name.encode(), qos.encode(), number) for number in (1, 2, 3)
        ]
        assert process.wait(TIMEOUT_S) == 0


@VERSIONS
def test_mosquitto_and_retained_messages(broker: Broker, client: Client, name: str, version: str) -> None:
    client().retained.add(f"{name}/r")
    mosquitto = Mosquitto(broker.ports["mqtt"], version)
    mosquitto.publish("-t", f"{name}/r", "-m", "kept", "-q", "2", "-r")
    found = mosquitto.subscribe("-t", f"{name}/+", "-q", "2", "-C", "1", "-W", "5", "-F", "%t %q %r %p")
    assert found.stdout == f"{name}/r 2 1 kept\n".encode()
    mosquitto.publish("-t", f"{name}/r", "-n", "-r", "-q", "1")
    found = mosquitto.subscribe("-t", f"{name}/+", "-E")
    assert (found.returncode, found.stdout) == (0, b"")


@mosquitto_differs("ends the connection of its own client now and then")
@VERSIONS
def test_mosquitto_comes_back_to_its_session(broker: Broker, client: Client, name: str, version: str) -> None:
    client(5, name, session_expiry=1).disconnect()  # is cleaned up afterwards
    mosquitto = Mosquitto(broker.ports["mqtt"], version)
    session = [
        "-i",
        name,
        "-c",
        "-t",
        f"{name}/t",
        "-q",
        "2",
        *(["-x", "600"] if version == "mqttv5" else []),
    ]
    assert mosquitto.subscribe(*session, "-E").returncode == 0
    mosquitto.publish(
        "-t", f"{name}/t", "-q", "2", "-l", input=b"".join(b"%d\n" % number for number in range(50))
    )
    found = mosquitto.subscribe(*session, "-C", "50", "-W", "10")
    assert found.stdout.split() == [b"%d" % number for number in range(50)], found
    client(5, name).disconnect()


@VERSIONS
def test_mosquittos_will(broker: Broker, client: Client, name: str, version: str) -> None:
    watcher = client().subscribed(f"{name}/will", qos=2)
    mosquitto = Mosquitto(broker.ports["mqtt"], version)
    will = ["--will-topic", f"{name}/will", "--will-payload", "gone", "--will-qos", "2"]
    with mosquitto.subscriber(client(), f"{name}-probe", "-t", f"{name}/t", *will) as process:
        process.kill()
        watcher.receive(b"gone", qos=2)


def test_mosquitto_pub_with_properties(broker: Broker, client: Client, name: str) -> None:
    mosquitto = Mosquitto(broker.ports["mqtt"], "mqttv5")
    with mosquitto.subscriber(
        client(), f"{name}-probe", "-t", f"$share/g/{name}", "-q", "1", "-C", "1", "-F", "%C|%R|%P|%p"
    ) as process:
        mosquitto.publish(
            "-t", name, "-m", "x", "-q", "1", "-D", "publish", "content-type", "text/plain", "-D", "publish",
            "response-topic", "r/t", "-D", "publish", "user-property", "k", "v",
        )  # fmt: skip
        assert lines(process) == [b"text/plain|r/t|k:v|x"]


@leveret_only("Mosquitto is run without users")
@VERSIONS
def test_mosquitto_sub_is_refused(broker: LeveretServer, version: str) -> None:
    mosquitto = Mosquitto(broker.ports["mqtt"], version)
    mosquitto.common[mosquitto.common.index("-P") + 1] = "wrong"
    found = mosquitto.subscribe("-t", "t", "-E")
    assert found.returncode != 0
    assert b"Connection error" in found.stderr or b"Connection Refused" in found.stderr


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_sends_a_large_file(
    broker: Broker, client: Client, name: str, qos: str, tmp_path: Any
) -> None:
    payload = bytes(range(256)) * 20_000
    (tmp_path / "file").write_bytes(payload)
    watcher = client().subscribed(name, qos=2)
    Mosquitto(broker.ports["mqtt"], "mqttv5").publish("-t", name, "-q", qos, "-f", str(tmp_path / "file"))
    assert watcher.receive().payload == payload
    poll(lambda: not watcher.barrier(), "more than one")
