"""Webhooks in: requests of other systems, verified and stored as messages."""

from typing import Final

COMPONENT: Final = "webhook-source"
"""The component of the runtime parameters that are sources."""
