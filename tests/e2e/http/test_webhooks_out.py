"""Webhooks out, end to end: a real server, real sockets, killed in the middle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate

from standardwebhooks.webhooks import Webhook
from support.hook_receiver import Answer, HookReceiver, Received
from support.hooks_api import HooksApi, publish
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.plugin import FLUSH_S

Start = Callable[..., LeveretServer]


def test_from_amqp_to_http_and_what_is_told_of_it(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        made = api.put(receiver, headers={"X-Key": "k3y"})
        (secret,) = made["secrets"]
        assert made["subscription"]["secrets"] == ["********"]
        publish(one, b'{"a":1}', content_type="application/json", message_id="m-1", headers={"h": "v"})
        (request,) = receiver.wait(1)
        assert Webhook(secret).verify(request.body, request.headers) == {"a": 1}
        assert request.headers["x-leveret-header-h"] == "v"
        assert request.headers["x-key"] == "k3y"
        attempts = poll(lambda: api.hook("GET", "/attempts"), "an attempt")
        assert [(one["outcome"], one["status"], one["response"]) for one in attempts] == [
            ("delivered", 200, "ok")
        ]
        facts = api.hook("GET")
        assert (facts["status"], facts["delivered_total"], facts["messages_ready"]) == ("running", 1, 0)
        assert facts["subscription"]["headers"] == {"X-Key": "********"}
        assert [one["name"] for one in api.call("GET", "/v1/webhooks")[1]] == ["w"]
        assert [one["name"] for one in api.call("GET", "/v1/webhooks/%2F")[1]] == ["w"]

        for path in ("/api/parameters", "/api/parameters/webhook/%2F/w"):
            shown = json.dumps(api.call("GET", path)[1])
            assert '"********"' in shown
            assert secret not in shown
            assert "k3y" not in shown

        changed = api.hook("PATCH", value={"timeout_s": 3, "headers": {"X-Key": "********"}})
        assert changed["subscription"]["timeout_s"] == 3
        rotated = api.hook("POST", "/rotate-secret", {"keep_s": 60})["secret"]
        publish(one, b"{}")
        headers = receiver.wait(2)[1].headers
        for known in (secret, rotated):
            Webhook(known).verify(b"{}", headers)
        assert headers["x-key"] == "k3y"
        api.hook("POST", "/test", expect=202)
        assert receiver.wait(3)[2].headers["x-leveret-type"] == "webhook.test"

        api.hook("POST", "/disable")
        publish(one, b"later")
        assert api.hook("GET")["messages_ready"] == 1
        api.hook("POST", "/enable")
        assert receiver.wait(4)[3].body == b"later"
        api.hook("DELETE", expect=204)
        api.hook("GET", expect=404)
        assert not [row for row in one.rows("list_queues", "name") if row["name"].startswith("webhook.")]
        assert secret not in one.errors


def test_what_is_refused(start: Start) -> None:
    one = start()
    one.ctl("add_user", "mere", "mere")
    one.ctl("set_permissions", "mere", ".*", ".*", ".*")
    one.ctl("add_user", "maker", "maker")
    one.ctl("set_user_tags", "maker", "policymaker")
    one.ctl("set_permissions", "maker", ".*", ".*", "^public$")
    api, url = HooksApi(one), "https://hooks.example/"
    assert HooksApi(one, "mere", "mere").call("GET", "/v1/webhooks")[0] == 403
    assert HooksApi(one, "nobody", "x").call("GET", "/v1/webhooks")[0] == 401
    status, answer = HooksApi(one, "maker", "maker").call(
        "PUT", "/v1/webhooks/%2F/w", {"url": url, "exchange": "amq.topic"}
    )
    assert (status, answer["detail"]) == (
        403, "read access to exchange 'amq.topic' in vhost '/' refused for user 'maker'",
    )  # fmt: skip
    for value, detail in (
        ({"url": "http://10.0.0.1/", "queue": "q"}, "webhook 'w': url: address 10.0.0.1 is in 10.0.0.0/8"),
        ({"url": url}, "needs either 'exchange' or 'queue'"),
        ({"url": url, "queue": "q", "retry": {"attempts": 0}}, "retry.attempts must be an integer"),
        ({"url": url, "queue": "q", "headers": {"Host": "x"}}, "headers: Host cannot be set"),
        ({"url": url, "queue": "q", "template": "{% for"}, "template: "),
        ({"url": url, "queue": "q", "secrets": ["whsec_short"]}, "secrets[0]: "),
    ):
        answer = api.hook("PUT", value=value, expect=400)
        assert detail in answer["detail"]
    assert api.call("GET", "/v1/webhooks/none/w")[0] == 404
    api.hook("PUT", value={"url": url, "queue": "q"}, expect=201)
    assert api.hook("GET")["waits_for"] == "there is no queue 'q' to consume"
    assert "limit must be" in api.hook("GET", "/attempts?limit=0", expect=400)["detail"]
    assert "there is no parameter" in api.hook("GET", "/attempts?what=1", expect=400)["detail"]
    assert "say which" in api.hook("POST", "/replay", {}, expect=400)["detail"]


def test_private_addresses_are_refused_unless_allowed(server: Start) -> None:
    one = server()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.hook(
            "PUT",
            value={
                "url": f"http://localhost:{receiver.port}/", "exchange": "amq.topic", "routing_key": "t.#",
                "retry": {"delays_s": []},
            },
            expect=201,
        )  # fmt: skip
        publish(one, b"x")
        (letter,) = poll(lambda: api.hook("GET", "/dead-letters"), "a dead letter")
        assert letter["reason"] == "exhausted"
        assert "which webhooks may not reach" in letter["error"]
        assert receiver.received == []


def test_an_endpoint_in_all_its_moods(start: Start) -> None:
    """aiohttp's server fails, redirects, stalls, answers too much, asks for patience; in the end it is delivered once."""
    one = start()
    api = HooksApi(one)

    def answer(request: Received, count: int) -> Answer:
        moods = [
            Answer(500),
            Answer(302, headers={"Location": f"{receiver.url}/elsewhere"}),
            Answer(200, delay_s=1.0),
            Answer(502, body=bytes(5 << 20)),
            Answer(429, headers={"Retry-After": "1"}),
            Answer(503, headers={"Retry-After": formatdate(time.time() + 2, usegmt=True)}),
            Answer(404),
        ]
        return moods[count - 1] if count <= len(moods) else Answer(204, body=b"")

    with HookReceiver(answer) as receiver:
        api.put(receiver, timeout_s=0.4)
        publish(one, b"{}", message_id="m")
        requests = receiver.wait(8)
        idle = {"messages_ready": 0, "retrying": 0, "in_flight": 0}
        poll(lambda: idle.items() <= api.hook("GET").items(), "nothing left to send")
        assert len(requests) == 8
        assert {(request.path, request.id, request.body) for request in requests} == {("/hook", "m", b"{}")}
        attempts = poll(lambda: len(found := api.hook("GET", "/attempts")) == 8 and found, "attempts")[::-1]
        assert [(one["status"], one["reason"]) for one in attempts] == [
            (500, "status"), (302, "status"), (None, "timeout"), (502, "status"), (429, "status"), (503, "status"),
            (404, "status"), (204, ""),
        ]  # fmt: skip
        assert [one["attempt"] for one in attempts] == list(range(1, 9))
        assert requests[5].at - requests[4].at >= 0.95
        assert requests[6].at - requests[5].at >= 0.95
        assert len(attempts[3]["response"]) == 1024


def test_dead_letters_are_replayed(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver(lambda request, count: Answer(500 if count <= 3 else 200)) as receiver:
        api.put(receiver, retry={"delays_s": []}, concurrency=1)
        publish(one, b"1", b"2", b"3", message_id="m")
        letters = poll(lambda: len(found := api.hook("GET", "/dead-letters")) == 3 and found, "dead letters")
        assert [(one["status"], one["attempts"]) for one in letters] == [(500, 1)] * 3
        assert api.hook("GET", "/dead-letters?limit=1&after=" + str(letters[0]["position"])) == [letters[1]]
        assert api.hook("GET", "/dead-letters?status=404") == []
        assert len(api.hook("GET", "/dead-letters?status=500")) == 3
        assert api.hook("POST", "/replay", {"status": 404}) == {"replayed": 0, "is_complete": True}
        answer = api.hook("POST", "/replay", {"ids": [letters[1]["position"]]})
        assert answer == {"replayed": 1, "is_complete": True}
        assert receiver.wait(4)[3].body == b"2"
        assert api.hook("POST", "/replay", {"all": True})["replayed"] == 2
        assert sorted(request.body for request in receiver.wait(6)[4:]) == [b"1", b"3"]
        assert api.hook("GET", "/dead-letters") == []


def test_killed_in_the_middle_of_retries(start: Start) -> None:
    """Nothing is lost; attempts go on counting, ids stay, and what was not due is not due because of the restart."""
    failing = True

    def answer(request: Received, count: int) -> Answer:
        return Answer(500 if failing and not request.body.startswith(b"ok") else 200)

    one = start()
    api = HooksApi(one)
    with HookReceiver(answer) as receiver:
        api.put(receiver, retry={"delays_s": [0.1, 0.1, 5.0, 60.0], "jitter": 0}, circuit_breaker=False)
        publish(one, *[b"bad%d" % number for number in range(20)])
        publish(one, *[b"ok%d" % number for number in range(20)])
        receiver.wait(20 + 3 * 20)
        poll(lambda: len(api.hook("GET", "/attempts?outcome=retry&limit=1000")) == 60, "records")
        time.sleep(FLUSH_S + 0.3)  # then the log of attempts is durable; nothing outside the server tells it
        before = {request.body: request.id for request in receiver.received}
        last = max(request.at for request in receiver.received)
        one.kill()
        receiver.received.clear()
        failing = False
        one.start()
        facts = api.hook("GET")
        assert facts["retrying"] + facts["in_flight"] + facts["messages_ready"] >= 0
        after = receiver.wait(20)
        assert sorted(request.body for request in after) == sorted(b"bad%d" % number for number in range(20))
        for request in after:
            assert request.id == before[request.body]
            assert request.headers["x-leveret-attempt"] == "4"
            assert request.at - last >= 4.5  # not at once: when it was due
        poll(lambda: api.hook("GET")["messages_ready"] == 0, "an empty queue")
        attempts = api.hook("GET", "/attempts?limit=1000")
        assert sum(one["outcome"] == "retry" for one in attempts) == 60
        assert sum(one["outcome"] == "delivered" for one in attempts) == 40
    assert one.stop() == 0
    assert "Traceback" not in one.errors


def test_disabled_stays_disabled_and_dead_stays_dead_after_a_kill(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver(lambda request, count: Answer(410)) as receiver:
        api.put(receiver, concurrency=1)
        publish(one, b"1", b"2")
        poll(lambda: api.hook("GET")["status"] == "disabled", "disabled")
        publish(one, b"3")  # its confirm is behind the commit of what was before
        one.kill()
        one.start()
        facts = api.hook("GET")
        assert (facts["status"], facts["messages_ready"], facts["messages_dead"]) == ("disabled", 2, 1)
        assert facts["disabled_by"] == "the endpoint answered 410 Gone"
        assert len(receiver.received) == 1


def test_many_kills_lose_nothing(start: Start) -> None:
    """Published, confirmed, killed, again and again: every message arrives, under one id each."""
    one = start()
    api = HooksApi(one)
    taken: list[Received] = []

    def answer(request: Received, count: int) -> Answer:
        if count % 3 == 0:
            return Answer(500)
        taken.append(request)
        return Answer(200)

    with HookReceiver(answer) as receiver:
        api.put(receiver, circuit_breaker=False)
        for turn in range(4):
            enough = len(receiver.received) + 40 * turn
            publish(one, *[b"%d-%d" % (turn, number) for number in range(200)])
            receiver.wait(enough)
            one.kill()
            one.start()
        expected = {b"%d-%d" % (turn, number) for turn in range(4) for number in range(200)}
        poll(lambda: {request.body for request in taken} == expected, "all arrived", timeout=30)
        ids: dict[bytes, set[str]] = {}
        for request in receiver.received:
            ids.setdefault(request.body, set()).add(request.id)
        assert {len(found) for found in ids.values()} == {1}
        assert len({next(iter(found)) for found in ids.values()}) == len(expected)
        assert api.hook("GET", "/dead-letters") == []


def test_disabling_the_plugin_keeps_everything(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver)
        one.ctl("plugins", "disable", "webhooks")
        status, answer = api.call("GET", "/v1/webhooks/%2F/w")
        assert (status, answer["error"]) == (503, "plugin_disabled")
        publish(one, b"x")
        one.ctl("plugins", "enable", "webhooks")
        assert receiver.wait(1)[0].body == b"x"
