"""Wills: stored with the session while its client is connected, published when it is lost (5.0 3.1.2.5, 3.1.3.2).

A will is in one of three states: armed (the client is connected), pending (the client is lost, the delay runs), and
gone. Both states that are not `gone` are durable. A broker that died publishes its clients' wills when it is back;
one that is stopped publishes them as it closes the connections, as Mosquitto does, but for those with a delay, which
goes on counting by the wall clock (the specification allows to defer them to the restart).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.mqtt.records import record_key
from leveret.adapters.mqtt.spec import NEVER_EXPIRES, Properties, Will
from leveret.core.fields import ByteArray, FieldError, decode_table, encode_table

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.timers import Timer
__all__ = ["StoredWill", "Wills"]

log = logging.getLogger(__name__)

PREFIX = b"mqtt/will/"


@dataclass(slots=True)
class StoredWill:
    """fire_at_ms: wall clock; None: the client is connected."""

    vhost: str
    client_id: str
    username: str
    will: Will
    session_expiry_s: int
    fire_at_ms: int | None = None

    @property
    def delay_s(self) -> int:
        """The will is published when its delay or the session ends, whichever is first (5.0 3.1.3.2.2)."""
        return min(self.will.properties.will_delay_s or 0, self.session_expiry_s)


class Wills:
    """All wills of a broker's MQTT clients.

    publish: called once for each will that is due, after it has been taken out; checks the permission of the user as
    it is then. What it raises is logged.
    """

    def __init__(self, broker: Broker, publish: Callable[[str, StoredWill], None]) -> None:
        self._broker = broker
        self._publish = publish
        self._wills: dict[tuple[str, str], StoredWill] = {}
        self._timers: dict[tuple[str, str], Timer] = {}

    def __len__(self) -> int:
        return len(self._wills)

    def get(self, vhost: str, client_id: str) -> StoredWill | None:
        return self._wills.get((vhost, client_id))

    def recover(self) -> None:
        """At the start, when sessions and their subscriptions are there: every client that was connected is lost now;
        delays that were running go on."""
        overdue: list[tuple[str, str]] = []
        armed: list[tuple[str, str]] = []
        now_ms = self._now_ms()
        for stored in self._read():
            key = stored.vhost, stored.client_id
            self._wills[key] = stored
            if stored.vhost not in self._broker.vhosts:
                self._take(key)
                continue
            if stored.fire_at_ms is None:
                armed.append(key)
            elif stored.fire_at_ms <= now_ms:
                overdue.append(key)
            else:
                self._start(stored, stored.fire_at_ms)
        for key in sorted(overdue, key=lambda key: self._wills[key].fire_at_ms or 0):
            self._fire_now(key)
        for vhost, client_id in armed:
            self.fire(vhost, client_id)

    # -- a connection's life

    def register(self, vhost: str, client_id: str, username: str, will: Will, session_expiry_s: int) -> None:
        """CONNECT brought a will. Call `reconnected` before: what is left of an earlier one is dropped here."""
        self._take((vhost, client_id), is_replaced=True)
        stored = StoredWill(vhost, client_id, username, will, session_expiry_s)
        self._wills[vhost, client_id] = stored
        self._save(stored)

    def discard(self, vhost: str, client_id: str) -> None:
        """DISCONNECT with reason 0x00: the will is gone, unpublished. Harmless if there is none."""
        self._take((vhost, client_id))

    cancel = discard
    """The client is back in time: a will that is pending is gone, unpublished."""

    def fire(
        self, vhost: str, client_id: str, *, now: bool = False, session_expiry_s: int | None = None
    ) -> None:
        """The connection is lost, or ended with reason 0x04: publish, after the delay.

        now: whatever the delay, for the session has ended, too. session_expiry_s: what DISCONNECT changed it to.
        Harmless if there is no will; one that is pending keeps its time. Not for a connection that was taken over:
        `reconnected` has decided, and the will that is here now is the new connection's.
        """
        stored = self._wills.get((vhost, client_id))
        if stored is None:
            return
        if session_expiry_s is not None:
            stored.session_expiry_s = session_expiry_s
        delay_s = 0 if now else stored.delay_s
        if not delay_s:
            self._fire_now((vhost, client_id))
        elif stored.fire_at_ms is None:
            stored.fire_at_ms = self._now_ms() + delay_s * 1000
            self._save(stored)
            self._start(stored, stored.fire_at_ms)

    def reconnected(self, vhost: str, client_id: str, *, clean_start: bool) -> None:
        """A CONNECT with this client id was accepted: what of the will before it?

        Clean start ends the session: published, pending or not. Else a pending will is cancelled, and that of a
        connection that is taken over is published only if it has no delay (5.0 3.1.4, 3.1.3.2.2).
        """
        stored = self._wills.get((vhost, client_id))
        if stored is None:
            return
        if clean_start or not stored.delay_s:
            self._fire_now((vhost, client_id))
        else:
            self.cancel(vhost, client_id)

    def forget_vhost(self, vhost: str) -> None:
        """The virtual host was deleted: its wills are gone, unpublished."""
        for key in [key for key in self._wills if key[0] == vhost]:
            self._take(key)

    # -- timers

    def _start(self, stored: StoredWill, fire_at_ms: int) -> None:
        key = stored.vhost, stored.client_id
        timers = self._broker.timers
        self._timers[key] = timers.at(timers.monotonic(fire_at_ms), lambda: self._fire_now(key))

    def _fire_now(self, key: tuple[str, str]) -> None:
        stored = self._take(key)
        if stored is None:
            return
        try:
            self._publish(stored.vhost, stored)
        except Exception:
            log.exception("vhost=%s client_id=%r its will could not be published", *key)

    def _take(self, key: tuple[str, str], *, is_replaced: bool = False) -> StoredWill | None:
        stored = self._wills.pop(key, None)
        if stored is None:
            return None
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if not is_replaced:
            self._broker.store.delete_definition(PREFIX + record_key(*key))
        return stored

    def _now_ms(self) -> int:
        timers = self._broker.timers
        return timers.wall_ms(timers.now)

    # -- records: a field table, and behind it the payload as it is

    def _save(self, stored: StoredWill) -> None:
        will, properties = stored.will, stored.will.properties
        correlation_data = properties.correlation_data
        table = {
            "vhost": stored.vhost, "client_id": stored.client_id, "username": stored.username,
            "session_expiry_s": stored.session_expiry_s, "fire_at_ms": stored.fire_at_ms,
            "topic": will.topic, "qos": int(will.qos), "retain": bool(will.retain),
            "will_delay_s": properties.will_delay_s, "payload_format": properties.payload_format,
            "message_expiry_s": properties.message_expiry_s, "content_type": properties.content_type,
            "response_topic": properties.response_topic,
            "correlation_data": None if correlation_data is None else ByteArray(correlation_data),
            "user_properties": [list(pair) for pair in properties.user_properties],
        }  # fmt: skip
        self._broker.store.put_definition(
            PREFIX + record_key(stored.vhost, stored.client_id), encode_table(table) + will.payload
        )

    def _read(self) -> Iterator[StoredWill]:
        for key, value in self._broker.store.definitions(PREFIX):
            try:
                table, end = decode_table(value)
                yield _restored(table, value[end:])
            except (FieldError, KeyError) as error:
                log.error("record=%r cannot be read: %r", key, error)


def _restored(table: dict[str, Any], payload: bytes) -> StoredWill:
    def number(name: str) -> int | None:
        return None if table[name] is None else int(table[name])

    correlation_data = table["correlation_data"]
    properties = Properties(
        payload_format=number("payload_format"), message_expiry_s=number("message_expiry_s"),
        content_type=table["content_type"], response_topic=table["response_topic"],
        correlation_data=None if correlation_data is None else bytes(correlation_data),
        will_delay_s=number("will_delay_s"),
        user_properties=tuple((name, text) for name, text in table["user_properties"]),
    )  # fmt: skip
    will = Will(table["topic"], payload, int(table["qos"]), table["retain"], properties)
    expiry_s = number("session_expiry_s")
    return StoredWill(
        table["vhost"], table["client_id"], table["username"], will,
        NEVER_EXPIRES if expiry_s is None else expiry_s, number("fire_at_ms"),
    )  # fmt: skip
