"""Webhooks out: messages of a queue, each sent as an HTTP request to a URL; signed, retried, recorded."""

from typing import Final

COMPONENT: Final = "webhook"
"""Of the runtime parameters that are subscriptions."""
