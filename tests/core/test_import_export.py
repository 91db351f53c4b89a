"""Definitions out and in: files of RabbitMQ 3.10 as they are, everything checked before anything is changed."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.registries import installed

from leveret.auth import passwords
from leveret.auth.contracts import AccessDenied
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.definitions.exporter import export
from leveret.core.definitions.importer import DefinitionsError, import_, read_file
from leveret.core.errors import NotFound, PreconditionFailed
from leveret.core.fields import ByteArray, Decimal, Float32, Int64, Timestamp
from leveret.core.session import Session
from leveret.core.store.memory import MemoryState, MemoryStore

FILE = Path(__file__).parents[1] / "data" / "definitions-3.10.json"
"""Exported by a RabbitMQ 3.10.8 that had everything."""
SECTIONS = (
    "users", "vhosts", "permissions", "topic_permissions", "parameters", "global_parameters", "policies", "queues",
    "exchanges", "bindings",
)  # fmt: skip
QUEUE = {"vhost": "/", "name": "q", "durable": True, "auto_delete": False, "arguments": {}}

BAD = QUEUE | {"name": "bad"}


@asynccontextmanager
async def running(state: MemoryState | None = None, **auth: Any) -> AsyncIterator[Broker]:
    settings = replace(Settings(), auth=replace(Settings().auth, **auth))
    async with Broker(settings, installed(), MemoryStore(state=state)).running() as broker:
        yield broker


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def as_set(items: Iterable[Any]) -> set[str]:
    return {json.dumps(item, sort_keys=True) for item in items}


def like(items: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the members that RabbitMQ 3.10 has not in this section."""
    known = set().union(*theirs) if theirs else set()
    return [{key: value for key, value in item.items() if key in known} for item in items]


async def test_a_file_of_rabbitmq_comes_out_as_it_went_in() -> None:
    theirs = document()
    async with running() as broker:
        report = import_(broker, theirs)
        ours = json.loads(json.dumps(export(broker)))
        theirs["global_parameters"] = [
            item for item in theirs["global_parameters"] if not item["name"].startswith("internal")
        ]
        for section in SECTIONS:
            assert as_set(like(ours[section], theirs[section])) == as_set(theirs[section]), section
        queues = {queue["name"]: queue for queue in ours["queues"]}
        typed = queues["types"]["arguments"]
        assert {key: type(value) for key, value in typed.items()} == {
            "big": int, "empty": str, "exp": float, "false": bool, "float": float, "int": int, "list": list,
            "negative": int, "no-items": list, "nothing-in": dict, "table": dict, "text": str, "true": bool,
            "whole": float,
        }  # fmt: skip
        assert [(type(item), item) for item in typed["list"][:3]] == [(int, 1), (str, "two"), (float, 3.0)]
        assert report.counts["queues"] == len(theirs["queues"])
        assert [warning for warning in report.warnings if "ha-mode" in warning]
        assert len(report.warnings) == 1

        # Again: nothing changes, and nothing is in the way.
        before = copy.deepcopy(ours)
        events: list[str] = []
        broker.events.subscribe(lambda event, fields: events.append(event))
        import_(broker, json.loads(json.dumps(ours)))
        assert not [
            event for event in events if event.startswith(("user.", "queue.", "policy.", "operator."))
        ]
        assert json.loads(json.dumps(export(broker))) == before


async def test_what_was_imported_works_and_survives() -> None:
    state = MemoryState()
    async with running(state) as broker:
        import_(broker, document())
    async with running(state) as broker:
        users = {user.name: user for user in broker.users.list_users()}
        for algorithm in ("256", "512", "md5"):
            user = users[f"hash-{algorithm}"]
            assert passwords.verify("test12", user.password_hash, user.hashing_algorithm), algorithm
        assert users["hash-512"].limits == {"max-connections": 10, "max-channels": 20}
        with pytest.raises(AccessDenied, match="blank password"):
            broker.users.authenticate_password("certificate", "")
        shop = broker.vhosts["shop"]
        assert shop.limits == {"max-connections": 1000, "max-queues": 100}
        assert shop.exchanges["events"].policy_name == "ae"
        assert shop.queues["plain"].policy_name == "ha"
        assert shop.queues["plain"].operator_policy_name == "cap"
        assert shop.queues["plain"].limits.max_length == 100000
        assert (shop.queues["quorum"].type, shop.queues["quorum"].limits.delivery_limit) == ("quorum", 5)
        assert broker.vhosts["/"].queues["short.a"].limits.message_ttl_ms == 60000
        assert broker.parameters["cluster_name"] == "the cluster"
        assert "transient" not in shop.queues  # it is not durable
        principal = broker.users.authenticate_password("guest", "guest")
        assert principal is not None
        session = Session(broker, shop, principal, object())
        # A client that declares it as it was exported is right.
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-quorum-initial-group-size": 1}
        session.queue_declare("quorum", durable=True, arguments=arguments)
        session.queue_declare("plain", durable=True)


async def test_one_virtual_host_into_another() -> None:
    async with running() as broker:
        import_(broker, document())
        broker.add_vhost("copy")
        ours = json.loads(json.dumps(export(broker, "shop")))
        assert ours["rabbitmq_definition_format"] == "single_virtual_host"
        assert ours["original_vhost_name"] == "shop"
        assert not any("vhost" in item for section in SECTIONS for item in ours.get(section, ()))
        assert "users" not in ours
        import_(broker, ours, "copy")
        copied = json.loads(json.dumps(export(broker, "copy")))
        for section in ("parameters", "policies", "queues", "exchanges", "bindings"):
            assert as_set(copied[section]) == as_set(ours[section]), section
        with pytest.raises(NotFound):
            export(broker, "nope")
        with pytest.raises(NotFound):
            import_(broker, ours, "nope")
        with pytest.raises(DefinitionsError, match=r"queues\[0\].*vhost is missing"):
            import_(broker, ours | {"parameters": [], "policies": [], "exchanges": []})


@pytest.mark.parametrize(
    ("section", "items", "reason"),
    [
        ("users", [{"password_hash": ""}], "name is missing"),
        ("users", [{"name": "x", "password_hash": "!"}], "base64"),
        ("users", [{"name": "x", "password_hash": "abcd"}], "password hash"),
        ("users", [{"name": "x", "password_hash": "", "hashing_algorithm": "rot13"}], "rot13"),
        ("users", [{"name": "x", "tags": 5}], "tags"),
        ("users", [{"name": "x", "limits": {"max-channels": "5"}}], "max-channels"),
        ("users", [5], "object"),
        ("users", 5, "list"),
        ("vhosts", [{"name": ""}], "name"),
        ("vhosts", [{"name": "v", "limits": {"max-queues": "many"}}], "max-queues"),
        ("permissions", [{"user": "guest", "vhost": "nope", "configure": "", "write": "", "read": ""}], "nope"),
        ("permissions", [{"user": "nope", "vhost": "/", "configure": "", "write": "", "read": ""}], "nope"),
        ("permissions", [{"user": "guest", "vhost": "/", "configure": "(", "write": "", "read": ""}], "regular"),
        ("permissions", [{"user": "guest", "vhost": "/", "configure": "", "write": ""}], "read is missing"),
        ("topic_permissions", [{"user": "guest", "vhost": "/", "write": "", "read": ""}], "exchange"),
        ("global_parameters", [{"name": "x"}], "value is missing"),
        ("parameters", [{"vhost": "/", "component": "operator_policy", "name": "x", "value": 1}], "object"),
        ("parameters", [{"vhost": "/", "component": "vhost-limits", "name": "limits", "value": 1}], "object"),
        ("policies", [{"vhost": "/", "name": "x", "pattern": "(", "definition": {"max-length": 1}}], "regular"),
        ("policies", [{"vhost": "/", "name": "x", "pattern": "", "definition": {"max-length": "1"}}], "length"),
        ("policies", [{"vhost": "/", "name": "x", "pattern": "", "definition": {}, "priority": 1}], "no policy"),
        ("policies", [{"vhost": "/", "name": "x", "pattern": "", "definition": {"max-length": 1},
                       "priority": 1 << 63}], "priority"),
        ("vhosts", [{"name": "v", "limits": {"max-queues": 1 << 40}}], "max-queues"),
        ("exchanges", [{"vhost": "/", "name": "x", "type": "x-nope"}], "x-nope"),
        ("exchanges", [{"vhost": "/", "name": "x", "type": "direct", "durable": "perhaps"}], "durable"),
        ("queues", [BAD | {"arguments": {"x-max-length": "5"}}], "expected integer"),
        ("queues", [BAD | {"arguments": {"n": 1 << 63}}], "64 bits"),
        ("queues", [BAD | {"arguments": 5}], "object"),
        ("queues", [QUEUE | {"name": "n" * 256}], "255"),
        ("queues", [QUEUE | {"name": "\ud800"}], "string"),
        ("queues", [BAD | {"type": "quorum", "durable": False}], "non-durable"),
        ("queues", [BAD | {"arguments": {"x-queue-type": "heap"}}], "heap"),
        ("bindings", [{"source": "amq.headers", "vhost": "/", "destination": "q", "destination_type": "queue",
                       "routing_key": "", "arguments": {"x-match": "some"}}], "x-match"),
        ("bindings", [{"source": "amq.topic", "vhost": "/", "destination": "q", "destination_type": "thing",
                       "routing_key": ""}], "destination_type"),
    ],
)  # fmt: skip
async def test_a_mistake_names_the_item_and_changes_nothing(section: str, items: Any, reason: str) -> None:
    wanted: dict[str, Any] = {
        "users": [{"name": "new", "tags": ["administrator"]}],
        "vhosts": [{"name": "new"}],
        "queues": [QUEUE],
        "policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 1}}],
    }
    wanted[section] = [*wanted.get(section, ()), *items] if isinstance(items, list) else items
    async with running() as broker:
        before = json.dumps(export(broker))
        with pytest.raises(DefinitionsError) as raised:
            import_(broker, wanted)
        assert reason in str(raised.value)
        assert str(raised.value).startswith(section)
        assert json.dumps(export(broker)) == before


async def test_what_is_there_stays() -> None:
    async with running() as broker:
        vhost = broker.vhosts["/"]
        broker.users.add_user("u", "secret", ["monitoring"])
        broker.users.set_user_limits("u", {"max-channels": 3})
        vhost.update(description="mine", tags=["a"])
        import_(broker, {"queues": [QUEUE]})
        queue = vhost.queues["q"]
        report = import_(broker, {
            "users": [{"name": "u", "tags": "management, custom", "what": 1}],
            "vhosts": [{"name": "/"}],
            "queues": [QUEUE | {"durable": False, "arguments": {"x-max-length": 5}}, QUEUE | {"name": "amq.gen-1"}],
            "exchanges": [
                {"vhost": "/", "name": name, "type": "fanout"} for name in ("", "amq.topic", "amq.mine")
            ],
            "bindings": [
                {"source": "", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "q"},
                {"source": "nope", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": ""},
            ],
            "whatever": 5,
            "topic_permissions": None,
        })  # fmt: skip
        assert vhost.queues["q"] is queue
        assert queue.is_durable
        assert "amq.gen-1" not in vhost.queues
        assert "amq.mine" not in vhost.exchanges
        assert vhost.exchanges["amq.topic"].type == "topic"
        user = broker.users.user("u")
        assert (user.tags, user.limits) == (("management", "custom"), {"max-channels": 3})
        assert broker.users.authenticate_password("u", "secret")
        assert (vhost.description, vhost.tags) == ("mine", ("a",))
        assert len(report.warnings) == 1
        assert "'nope'" in report.warnings[0]


async def test_forms_of_other_versions() -> None:
    async with running() as broker:
        report = import_(broker, {
            "users": [
                {"name": "old", "password_hash": "kI3GChNpte2FApYFXScl+0dIluk=", "tags": ""},
                {"name": "plain", "password": "word", "tags": ["x"]},
            ],
            "vhosts": [
                {"name": "list", "limits": [{"name": "max-queues", "value": 5}]},
                {"name": "map", "limits": {"max-queues": 6}, "metadata": {
                    "protected_from_deletion": True, "description": "d", "tags": ["t"], "default_queue_type": "quorum"}},
                {"name": "undefined", "default_queue_type": "undefined", "description": "e", "tags": []},
                {"name": "stream", "default_queue_type": "stream"},
            ],
            "parameters": [
                {"vhost": "map", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://"}},
            ],
            "queues": [
                QUEUE | {"name": "four", "type": "quorum", "arguments": {"x-queue-type": "quorum"}},
                QUEUE | {"name": "type-only", "type": "quorum"},
                QUEUE | {"name": "stream", "arguments": {"x-queue-type": "stream"}},
                QUEUE | {"name": "locator", "arguments": {"x-queue-leader-locator": "balanced"}},
            ],
            "bindings": [
                {"source": "amq.topic", "vhost": "/", "destination": "stream", "destination_type": "queue",
                 "routing_key": "#", "arguments": {}, "properties_key": "%23"},
                {"source": "amq.topic", "vhost": "map", "destination": "amq.fanout", "destination_type": "exchange",
                 "routing_key": "#"},
            ],
        })  # fmt: skip
        old = broker.users.user("old")
        assert old.hashing_algorithm == "rabbit_password_hashing_md5"
        assert broker.users.authenticate_password("old", "test12")
        assert broker.users.authenticate_password("plain", "word")
        assert broker.vhosts["list"].limits == {"max-queues": 5}
        assert broker.vhosts["map"].limits == {"max-queues": 6}
        assert (broker.vhosts["map"].description, broker.vhosts["map"].default_queue_type) == ("d", "quorum")
        assert broker.vhosts["map"].is_protected
        with pytest.raises(PreconditionFailed, match="protected"):
            broker.delete_vhost("map")
        assert broker.vhosts["undefined"].default_queue_type == "classic"
        assert broker.vhosts["map"].parameters["shovel", "s"] == {"src-uri": "amqp://"}
        queues = broker.vhosts["/"].queues
        assert queues["type-only"].type == queues["four"].type == "quorum"
        assert set(queues) == {"four", "type-only", "locator"}
        assert len(broker.vhosts["map"].exchanges["amq.topic"].bindings) == 1
        warned = "\n".join(report.warnings)
        for word in ("stream", "shovel", "locator", "binding"):
            assert word in warned, word


async def test_values_that_only_amqp_has_come_out_as_json() -> None:
    async with running() as broker:
        arguments = {
            "time": Timestamp(5), "single": Float32(0.5), "bytes": ByteArray(b"\xff\x00"), "money": Decimal(2, 150),
            "long": Int64(1), "void": None, "list": [Timestamp(6), {"x": b"ok"}], "infinite": float("inf"),
        }  # fmt: skip
        vhost = broker.vhosts["/"]
        vhost.add_queue("q", durable=True, exclusive=False, auto_delete=False, arguments=arguments)
        vhost.add_queue(
            "mine", durable=False, exclusive=True, auto_delete=False, arguments={}, owner=object()
        )
        exported = json.loads(json.dumps(export(broker), allow_nan=False))
        assert [queue["name"] for queue in exported["queues"]] == ["q"]
        assert exported["queues"][0]["arguments"] == {
            "time": 5, "single": 0.5, "bytes": "\udcff\0", "money": 1.5, "long": 1, "void": None,
            "list": [6, {"x": "ok"}], "infinite": "inf",
        }  # fmt: skip
        vhost.remove_queue(vhost.queues["q"])
        import_(broker, exported)
        assert vhost.queues["q"].arguments["void"] is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON: line 1, column 2"),
        (b'{"x": NaN}', "is not JSON: it has NaN or an infinity in it"),
        (b'{"x": "\xff"}', "is not UTF-8, from byte 7 on"),
        (b"[" * 100_000, "has values that are nested too deeply"),
        (b"1" * 5000, "has a number with too many digits in it"),
    ],
)
def test_a_file_that_cannot_be_used_is_described_in_a_sentence(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "definitions.json"
    path.write_bytes(content)
    with pytest.raises(DefinitionsError) as raised:
        read_file(path)
    assert str(raised.value) == f"{path} {reason}"


def test_a_file_that_is_missing_or_cannot_be_read(tmp_path: Path) -> None:
    assert read_file(tmp_path / "nothing.json") is None
    with pytest.raises(DefinitionsError, match=r"cannot be read: Is a directory$"):
        read_file(tmp_path)
