"""docs/grafana-leveret.json and docs/prometheus-alerts.yml: valid, and asking for what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from support.metrics import Scrape
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("it is our dashboard")
DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-leveret.json"
ALERTS = DASHBOARD.with_name("prometheus-alerts.yml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LeveretServer(tmp_path_factory.mktemp("dashboard") / "d") as server:
        yield server


def url(server: LeveretServer, path: str) -> str:
    return f"http://127.0.0.1:{server.ports['http']}{path}"


def names_in(text: str) -> set[str]:
    """Of metrics, in queries."""
    found = set(re.findall(r"\b(?:rabbitmq|leveret|process|python)_[a-z0-9_]+\b", text))
    return found - {"rabbitmq_node", "rabbitmq_cluster", "rabbitmq_endpoint"}  # labels


def test_all_that_our_dashboard_and_alerts_ask_for_is_there(server: LeveretServer) -> None:
    webhook: dict[str, Any] = {"url": "https://leveret.invalid/", "exchange": "amq.topic", "enabled": False}
    source: dict[str, Any] = {
        "exchange": "amq.topic",
        "routing_key": "a",
        "mandatory": False,
        "verification": {"type": "none"},
    }
    for path, body in (("/v1/webhooks/%2F/w", webhook), ("/v1/webhook-sources/%2F/w", source)):
        answer = requests.put(url(server, path), json=body, auth=("guest", "guest"), timeout=10)
        assert answer.ok, answer.text
    assert requests.post(url(server, "/hooks/%2F/w"), data=b"x", timeout=10).ok
    found = Scrape(requests.get(url(server, "/metrics"), timeout=10).text)
    assert found.sum("leveret_hook_requests_total", vhost="/", source="w", result="received") == 1
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    queries += [variable["query"] for variable in dashboard()["templating"]["list"]]
    asked = names_in(" ".join(queries))
    assert len(asked) > 50
    assert sorted(asked - found.values.keys()) == []
    rules = [line for line in ALERTS.read_text().splitlines() if line.lstrip().startswith("expr: ")]
    assert len(rules) > 10
    assert sorted(names_in(" ".join(rules)) - found.values.keys()) == []


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def test_the_dashboard_is_one() -> None:
    """As far as Grafana's classic model (schema 39: Grafana 10.4 and later) can be checked without Grafana."""
    found = dashboard()
    assert (found["title"], found["uid"], found["schemaVersion"]) == ("Leveret", "leveret", 39)
    panels = found["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in ("row", "stat", "timeseries")
        assert panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells, f"{panel['title']} is over another one"
        cells |= own
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references == list("ABCDEFGH"[: len(references)])
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert '{instance=~"$instance"}' in target["expr"]
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "instance"]
