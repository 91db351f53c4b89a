"""Lists of the management API: pages, order, columns, rates and samples."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from support.management import Management
from support.management_activity import VHOST, Activity
from support.management_shapes import (
    QUEUE,
    SAMPLED,
    has,
)
from support.server import LeveretServer, own_server_only, poll

pytestmark = own_server_only("the server needs users and settings of its own")


def test_queues_are_a_bare_array(api: Management, activity: Activity) -> None:
    queues = api.get("/queues")
    assert [queue["name"] for queue in queues] == ["idle", "mine", "q1"]
    for queue in queues:
        has(queue, QUEUE)
    mine = queues[1]
    assert mine["exclusive"] is True
    assert mine["owner_pid_details"]["name"] == activity.name
    assert api.get("/queues/%", "/") == queues
    assert api.get("/queues/%", VHOST) == []
    terse = api.get("/queues?disable_stats=true&enable_queue_totals=true")
    assert terse[2] == {
        "name": "q1", "vhost": "/", "type": "classic", "durable": True, "auto_delete": False, "exclusive": False,
        "arguments": {"x-single-active-consumer": True, "x-queue-type": "classic"}, "node": queues[2]["node"], "state": "running",
        "messages_ready": 15, "messages_unacknowledged": 5, "messages": 20,
    }  # fmt: skip


def test_rates_and_samples(api: Management, activity: Activity) -> None:
    path = "/queues/%2F/q1?msg_rates_age=5&msg_rates_incr=1&lengths_age=5&lengths_incr=1"
    queue = api.request("GET", path).json
    details = queue["message_stats"]["publish_details"]
    assert details.keys() == SAMPLED

    def seen() -> list[dict[str, int]] | None:
        samples: list[dict[str, int]] = api.request("GET", path).json["message_stats"]["publish_details"][
            "samples"
        ]
        return samples if samples[0]["sample"] else None

    samples = poll(seen, "a whole second since the first look") or []
    times = [sample["timestamp"] for sample in samples]
    assert all(at % 1000 == 0 for at in times)
    assert times == sorted(times, reverse=True)
    assert samples[0]["sample"] == 20

    def rate() -> float:
        activity.publishing.basic_publish("x1", "a.b", b"more")
        found: float = api.get("/queues/%/q1", "/")["message_stats"]["publish_details"]["rate"]
        return found

    assert poll(rate, "a rate above 0") > 0
    connection = api.request(
        "GET", f"/connections/{quote(activity.name, safe='')}?data_rates_age=5&data_rates_incr=1"
    )
    assert connection.json["recv_oct_details"].keys() == SAMPLED
    activity.publishing.queue_purge("q1")


def test_totals_keep_what_is_gone(api: Management, broker: LeveretServer, activity: Activity) -> None:
    before = api.get("/overview")["message_stats"]["publish"]
    channel = activity.connection.channel()
    channel.queue_declare("passing", auto_delete=True)
    channel.exchange_declare("passing", "fanout")
    channel.basic_publish("passing", "", b"1")
    channel.basic_publish("", "passing", b"2")
    poll(lambda: api.get("/overview")["message_stats"]["publish"] == before + 2, "two more")
    sampled = "/queues/%2F/passing?msg_rates_age=5&msg_rates_incr=1"
    poll(
        lambda: "samples" in api.request("GET", sampled).json["message_stats"]["publish_details"],
        "the sampler to see the queue",
    )
    channel.exchange_delete("passing")
    channel.queue_delete("passing")
    channel.close()
    poll(
        lambda: api.get("/overview")["churn_rates"]["queue_deleted_details"]["rate"] > 0,
        "the sampler to see that the queue is gone",
    )
    assert api.get("/overview")["message_stats"]["publish"] == before + 2


def test_pages(api: Management, activity: Activity) -> None:
    page = api.get("/exchanges?page=2&page_size=6&columns=name,vhost")
    items = page.pop("items")
    assert page == {
        "total_count": 15, "item_count": 6, "filtered_count": 15, "page": 2, "page_size": 6, "page_count": 3,
    }  # fmt: skip
    assert items[0] == {"name": "amq.topic", "vhost": "/"}
    assert api.get("/queues?page=1&name=Q1")["filtered_count"] == 1
    assert api.get("/queues?page=1&name=.*1")["items"] == []
    found = api.request("GET", "/queues?page=1&name=%5EQ.$&use_regex=true&columns=name").json
    assert found["items"] == [{"name": "q1"}]


@pytest.mark.parametrize(
    ("query", "error", "reason"),
    [
        ("page=9", "page_out_of_range", "Page out of range, page: 9 page size: 100, len: 3"),
        (
            "page=0",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 0, page size undefined",
        ),
        (
            "page=1&page_size=501",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 1, page size 501",
        ),
        ("page=x", "bad_request", "Pagination parameters are invalid"),
        ("page=1&use_regex=true&name=%5B", "bad_request", "Pagination parameters are invalid"),
    ],
)
def test_pages_that_are_none(
    api: Management, activity: Activity, query: str, error: str, reason: str
) -> None:
    answer = api.request("GET", f"/queues?{query}")
    assert (answer.status, answer.json) == (400, {"error": error, "reason": reason})


def test_order_and_columns(api: Management, activity: Activity) -> None:
    names = [one["name"] for one in api.get("/queues?sort=messages&sort_reverse=true&columns=name")]
    assert names[0] == "q1" or api.get("/queues/%/q1", "/")["messages"] < 1
    assert [one["name"] for one in api.get("/queues?sort=name&sort_reverse=true&columns=name")] == [
        "q1", "mine", "idle",
    ]  # fmt: skip
    assert [one["name"] for one in api.get("/queues?sort=name&sort_reverse=1&columns=name")] == [
        "idle", "mine", "q1",
    ]  # fmt: skip
    rows = api.get("/queues?columns=name,message_stats.publish_details.rate&sort=message_stats.publish")
    assert rows[0] == {"name": "idle"}
    assert rows[2].keys() == {"name", "message_stats"}
    assert rows[2]["message_stats"]["publish_details"].keys() == {"rate"}
    assert api.get("/queues/%/q1?columns=name,consumer_details.consumer_tag", "/") == {
        "name": "q1",
        "consumer_details": [{"consumer_tag": "tag1"}],
    }
    assert api.get("/overview?columns=object_totals.queues") == {"object_totals": {"queues": 3}}
