"""HTTP: management API, messaging, webhooks, metrics."""
