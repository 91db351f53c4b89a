"""Servers with users and virtual hosts of a test's own, shared by the tests of a file that want the same settings."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from support.mqtt_peer import MqttPeer
from support.server import LeveretServer

__all__ = ["Place", "control"]


def control(server: LeveretServer, command: str, **arguments: Any) -> Any:
    """What `leveret ctl` asks at the control socket, without starting a program for it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.data_dir / "control.sock"))
        with connection.makefile("rw") as stream:
            stream.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
    assert "ok" in answer, answer
    return answer["ok"]


class Place:
    """One test's part of a server. `leave` takes it all away again."""

    def __init__(self, server: LeveretServer) -> None:
        self.server = server
        self.peers: list[MqttPeer] = []
        self._users: set[str] = set()
        self._vhosts: set[str] = set()
        self._returns: dict[tuple[str, str], Callable[[], MqttPeer]] = {}

    def vhost(self, name: str) -> None:
        control(self.server, "add_vhost", name=name)
        self._vhosts.add(name)

    def add_user(self, name: str) -> None:
        control(self.server, "add_user", username=name, password="secret")
        self._users.add(name)

    def user(self, name: str, *permissions: str, vhost: str = "/") -> None:
        """With permissions configure, write, read; all of them by default."""
        if name not in self._users:
            self.add_user(name)
        configure, write, read = permissions or (".*", ".*", ".*")
        control(
            self.server,
            "set_permissions",
            user=name,
            vhost=vhost,
            configure=configure,
            write=write,
            read=read,
        )

    def topics(self, user: str, write: str, read: str, vhost: str = "/") -> None:
        control(
            self.server,
            "set_topic_permissions",
            user=user,
            vhost=vhost,
            exchange="amq.topic",
            write=write,
            read=read,
        )

    def socket(self, version: int = 5) -> MqttPeer:
        self.peers.append(MqttPeer(self.server.ports["mqtt"], version))
        return self.peers[-1]

    def open(
        self, username: str | None = "guest", version: int = 5, client_id: str | None = None, **login: Any
    ) -> MqttPeer:
        password = None if username is None else "guest" if username == "guest" else "secret"
        named: dict[str, Any] = {"username": username, "password": password}
        peer = self.socket(version)
        peer.connect(client_id or f"c{len(self.peers)}", **named, **login)
        if peer.keeps_session:
            self._returns[username or "", peer.client_id] = lambda: MqttPeer.open(
                self.server.ports["mqtt"], 5, peer.client_id, **named
            )
        return peer

    def leave(self) -> None:
        for peer in self.peers:
            peer.close()
        for user in self._users | {"guest"}:
            control(self.server, "clear_topic_permissions", user=user, vhost="/")
        for come_back in self._returns.values():
            come_back().disconnect()
        with MqttPeer(self.server.ports["mqtt"]) as cleaner:
            cleaner.say_connect()
            if cleaner.expect("CONNACK").code == 0:  # guest may be kept out by the settings
                cleaner.subscribe("#")
                cleaner.unsubscribe("#")
                for message in cleaner.barrier():
                    cleaner.publish(message.topic, b"", retain=True)
        for user in self._users:
            control(self.server, "delete_user", username=user)
        for vhost in self._vhosts:
            control(self.server, "delete_vhost", name=vhost)
