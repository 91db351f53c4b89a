"""How many webhooks a second: from a durable queue to a receiver that does nothing but answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.standard_webhooks import new_secret

RECEIVER = Path(__file__).parents[3] / "bench" / "fast_receiver.py"
COUNT = 20_000
LEAST = 1000  # on whatever machine this is; the aim is 2,000


@pytest.mark.long
@pytest.mark.parametrize("order_by", ["", "routing_key"])
def test_rate(server: Callable[..., LeveretServer], tmp_path: Path, order_by: str) -> None:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    one = server(arguments=["--config", str(config)])
    with subprocess.Popen([sys.executable, str(RECEIVER)], stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}/"
            value = {"url": url, "exchange": "amq.fanout", "secrets": [new_secret()], "order_by": order_by}
            call(one, "PUT", value)
            with one.peer() as peer:
                peer.rpc(1, "confirm.select")
                begun = time.monotonic()
                frames = [
                    peer.publish_frames(1, "amq.fanout", f"k{number % 1000}", bytes(500), delivery_mode=2)
                    for number in range(COUNT)
                ]
                peer.send_raw(b"".join(frames))
                while peer.expect(1, "basic.ack").delivery_tag < COUNT:
                    pass
                poll(lambda: delivered(one) == COUNT, "delivered", timeout=60)
                rate = COUNT / (time.monotonic() - begun)
                peer.goodbye()
            print(f"webhooks order_by={order_by or 'none'}: {rate:.0f} deliveries/s")
            assert rate > LEAST
        finally:
            receiver.kill()


def call(server: LeveretServer, method: str, value: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.ports['http']}/v1/webhooks/%2F/rate",
        method=method,
        data=None if value is None else json.dumps(value).encode(),
        headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def delivered(server: LeveretServer) -> int:
    answer = call(server, "GET")
    time.sleep(0.1)  # each look takes time from what is measured
    return int(answer["delivered_total"])
