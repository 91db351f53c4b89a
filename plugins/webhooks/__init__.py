"""Webhooks out: messages of a queue, each as an HTTP request to an endpoint; signed, retried, recorded."""
