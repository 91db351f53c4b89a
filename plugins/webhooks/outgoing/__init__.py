"""Webhooks out: the messages of a queue are sent to a URL as HTTP requests, which are signed, retried and recorded."""

from typing import Final

COMPONENT: Final = "webhook"
"""The component of the runtime parameters that are subscriptions."""
