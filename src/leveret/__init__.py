"""Leveret: one broker, many doors: AMQP, MQTT, STOMP, HTTP."""

__version__ = "0.1.0"
