"""Columns of `leveret ctl list_queues` and `list_consumers` that are more than an attribute."""

from __future__ import annotations

from typing import Any

import pytest
from support.in_process import broker_in_process
from support.topology import envelope

from leveret.adapters.control.operations import OPERATIONS
from leveret.adapters.control.server import OperationRefused
from leveret.core.administration.policies import PolicyValue, set_policy

NUMBERS = [
    "name", "messages_ready_ram", "messages_unacknowledged_ram", "messages_ram", "messages_persistent", "message_bytes",
    "message_bytes_ready", "message_bytes_unacknowledged", "message_bytes_ram", "message_bytes_persistent",
]  # fmt: skip


async def test_messages_and_bytes_by_where_they_are() -> None:
    async with broker_in_process() as server:
        facts: dict[str, Any] = {"durable": True, "exclusive": False, "auto_delete": False, "arguments": {}}
        queue = server.broker.vhosts["/"].add_queue("q", **facts)
        queue.publish(envelope("", "q"), [b"12345"])
        queue.publish(envelope("", "q", delivery_mode=2), [b"123"])
        (row,) = OPERATIONS["list_queues"](server.broker, vhost="/", columns=NUMBERS)["rows"]
        assert [row[name] for name in NUMBERS] == [
            "q",
            2,
            0,
            2,
            1,
            8,
            8,
            0,
            8,
            row["message_bytes_persistent"],
        ]
        assert row["message_bytes_persistent"] >= 3
        columns = ["memory", "consumer_capacity", "consumer_utilisation", "effective_policy_definition"]
        (row,) = OPERATIONS["list_queues"](server.broker, vhost="/", columns=columns)["rows"]
        assert row["memory"] > 4096
        assert (row["consumer_capacity"], row["consumer_utilisation"]) == (0.0, 0.0)
        assert row["effective_policy_definition"] == {}
        set_policy(server.broker, "/", "p", PolicyValue("q", {"max-length": 7}))
        (row,) = OPERATIONS["list_queues"](server.broker, vhost="/", columns=columns)["rows"]
        assert row["effective_policy_definition"] == {"max-length": 7}


async def test_unknown_columns_are_refused_with_the_known_ones() -> None:
    async with broker_in_process() as server:
        with pytest.raises(OperationRefused, match="nonsense are not supported; there are name, durable"):
            OPERATIONS["list_queues"](server.broker, vhost="/", columns=["nonsense"])
