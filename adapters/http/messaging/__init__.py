"""Messaging by REST, below /v1: publish, receive, streams of events, requests with replies."""
