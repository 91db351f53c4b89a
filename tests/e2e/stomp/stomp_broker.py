"""Where the STOMP tests find their broker: Leveret's listeners, or those of the broker it is compared with.

LEVERET_TEST_STOMP_REFERENCE=HOST:PORT (and LEVERET_TEST_REFERENCE for the same broker's AMQP) runs the tests there.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.server import REFERENCE
from support.stomp_peer import Frame, StompPeer

__all__ = ["STOMP_REFERENCE", "VERSIONS", "fault", "leveret_only", "stomp_reference_differs"]

STOMP_REFERENCE = os.environ.get("LEVERET_TEST_STOMP_REFERENCE", "")
VERSIONS = ("1.0", "1.1", "1.2")

assert not STOMP_REFERENCE or REFERENCE, "LEVERET_TEST_REFERENCE must name the same broker's AMQP listener"


def stomp_reference_differs(why: str) -> pytest.MarkDecorator:
    """The test states what the specification or RabbitMQ 4.x says; the older reference must fail it."""
    return pytest.mark.xfail(bool(STOMP_REFERENCE), reason=why)


def leveret_only(why: str) -> pytest.MarkDecorator:
    """A feature that the reference does not have, or a server that the test configures."""
    return pytest.mark.skipif(bool(STOMP_REFERENCE), reason=why)


def fault(peer: StompPeer, message: str, *texts: str, **headers: Any) -> Frame:
    """ERROR with this `message` header and these texts in its body; then the end, as the specification demands.

    RabbitMQ 3.10 leaves most connections open.
    """
    frame = peer.expect("ERROR", **headers)
    assert frame["message"] == message, frame
    for text in texts:
        assert text in frame.body.decode(), frame
    if not STOMP_REFERENCE:
        peer.expect_close()
    return frame
