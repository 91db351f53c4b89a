"""The WebSocket listeners: what other adapters speak, behind an HTTP upgrade (RFC 6455)."""
