"""/health: for whoever restarts processes and balances load."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.in_process import broker_in_process
from support.rest import Rest, rest_door

from leveret.adapters.base import OpenListener
from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.health import REASONS


async def test_live_needs_no_login_and_says_little() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener, Rest(listener, None) as nobody:
        answer = await nobody.call("GET", "/health/live")
        assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("starting", lambda broker, adapter: broker.listeners.clear()),
        ("stopping", lambda broker, adapter: setattr(adapter.context, "is_stopping", True)),
        ("alarm_memory", lambda broker, adapter: broker.alarms.set_alarm("memory")),
        ("alarm_disk", lambda broker, adapter: broker.alarms.set_alarm("disk")),
        ("store_full", lambda broker, adapter: setattr(broker.store, "is_full", True)),
        ("store_behind", lambda broker, adapter: setattr(broker.backpressure, "max_pending_bytes", -1)),
    ],
)
async def test_not_ready_and_why(reason: str, change: Any) -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener, Rest(listener, None) as nobody:
        broker, adapter = listener.broker, listener.adapter
        broker.listeners = [OpenListener(HttpAdapter.listeners[0], "127.0.0.1", 15672)]
        answer = await nobody.call("GET", "/health/ready")
        assert (answer.status, answer.json) == (200, {"status": "ok"})
        change(broker, adapter)
        problem = (await nobody.call("GET", "/health/ready")).problem(503, "not_ready")
        assert problem["reasons"] == [reason]
        assert problem["detail"] == REASONS[reason]
        assert (await nobody.call("GET", "/health/live")).status == 200
        broker.store.is_full = False  # type: ignore[misc]  # set by the case "store_full"
        broker.alarms.clear_alarm("memory")
        broker.alarms.clear_alarm("disk")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_head(path: str) -> None:
    async with rest_door() as rest:
        rest.broker.listeners = [OpenListener(HttpAdapter.listeners[0], "127.0.0.1", 15672)]
        await rest.send("HEAD", path)
        assert (await rest.next()).status_code == 200


async def test_people_find_a_page_at_the_root() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener, Rest(listener, None) as nobody:
        answer = await nobody.call("GET", "/")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        for path in re.findall(r'href="([^"]+)"', answer.body.decode()):
            assert (await nobody.call("GET", path)).status in (200, 401, 503), path
