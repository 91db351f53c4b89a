"""Leveret: one broker, many listeners: AMQP, MQTT, STOMP, HTTP."""

__version__ = "0.1.0"
