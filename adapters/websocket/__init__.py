"""The WebSocket doors: what other adapters speak, behind an HTTP upgrade (RFC 6455)."""
