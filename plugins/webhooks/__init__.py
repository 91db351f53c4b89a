"""Webhooks in both directions: `outgoing/` sends messages of queues to URLs, `incoming/` stores requests as messages."""
