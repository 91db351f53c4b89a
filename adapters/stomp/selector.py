"""Selectors: `SUBSCRIBE` with `selector: color = 'blue' AND weight > 2500` gets the matching messages alone.

The language is that of JMS 1.1, 3.8.1, as ActiveMQ's users know it. Identifiers are the headers of a MESSAGE, under the
names that STOMP gives them (`color`, `"content-type"`, `priority`), and the names of JMS for some of them
(`JMSPriority`, `JMSType`, ...). What differs from JMS, mostly as it does with ActiveMQ and Artemis:

- STOMP's headers are strings, so a string is converted where it meets a number or a boolean: `age > 18` matches
  `age:21`, as behind ActiveMQ's STOMP listener. `convert_string_expressions:` in front says so (and changes nothing);
  `no_convert_string_expressions:` gives JMS's strict rule.
- A name with a hyphen stands in double quotes, as in SQL; with `hyphenated_props:` in front, `content-type` is one name.
- IN takes numbers and booleans too; `%` is the remainder.
- Two values that cannot be compared make `=` and `<>` false (JMS; ActiveMQ makes `<>` true).
- JMSPriority is 4 for a message without priority. What a message gains on its way (JMSRedelivered, JMSDestination,
  JMSExpiration) cannot be selected on, and there is no XPATH.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from leveret.adapters.stomp.selector_grammar import Condition, SelectorError, parse
from leveret.core.fields import Decimal
from leveret.core.message import Envelope
from leveret.core.properties import Properties

__all__ = ["MAX_LENGTH", "Selector", "SelectorError", "compile_selector"]

log = logging.getLogger(__name__)

MAX_LENGTH = 4096  # characters
REMEMBERED = 64  # envelopes whose answer a selector remembers; then all are forgotten
COMPILED = 256  # selectors kept for the next who subscribes with the same text

JMS_DEFAULT_PRIORITY = 4

# A header of a MESSAGE that is a property of the message, not an entry of its table.
PROPERTIES: dict[str, Callable[[Properties], Any]] = {
    "content-type": lambda p: p.content_type,
    "content-encoding": lambda p: p.content_encoding,
    "persistent": lambda p: None if p.delivery_mode is None else p.delivery_mode == 2,
    "priority": lambda p: p.priority,
    "correlation-id": lambda p: p.correlation_id,
    "reply-to": lambda p: p.reply_to,
    "expiration": lambda p: p.expiration,
    "amqp-message-id": lambda p: p.message_id,
    "timestamp": lambda p: p.timestamp,
    "type": lambda p: p.type,
    "user-id": lambda p: p.user_id,
    "app-id": lambda p: p.app_id,
    "cluster-id": lambda p: p.cluster_id,
    "JMSCorrelationID": lambda p: p.correlation_id,
    "JMSDeliveryMode": lambda p: "PERSISTENT" if p.delivery_mode == 2 else "NON_PERSISTENT",
    "JMSMessageID": lambda p: p.message_id,
    "JMSPriority": lambda p: JMS_DEFAULT_PRIORITY if p.priority is None else p.priority,
    "JMSReplyTo": lambda p: p.reply_to,
    "JMSTimestamp": lambda p: None if p.timestamp is None else p.timestamp * 1000,  # JMS counts milliseconds
    "JMSType": lambda p: p.type,
}
UNSELECTABLE = frozenset(
    ("JMSDestination", "JMSExpiration", "JMSRedelivered", "JMSDeliveryTime",
     "destination", "message-id", "redelivered", "subscription", "content-length", "ack")
)  # fmt: skip  # the last row: a MESSAGE has them, the message has not

PREFIXES = (  # in front of a selector: name, converts or None, has_hyphens or None
    ("convert_string_expressions:", True, None),
    ("no_convert_string_expressions:", False, None),
    ("hyphenated_props:", None, True),
    ("no_hyphenated_props:", None, False),
)


class Selector:
    """One compiled selector; equal texts share one. It remembers its answers for the envelopes it saw last."""

    __slots__ = ("_answers", "_condition", "text")

    def __init__(self, text: str, condition: Condition) -> None:
        self.text = text
        self._condition = condition
        self._answers: dict[Envelope, bool] = {}

    def __repr__(self) -> str:
        return f"<Selector {self.text!r}>"

    def matches(self, envelope: Envelope) -> bool:
        """Unknown is no match. Never raises: a message that cannot be read does not match."""
        answers = self._answers
        answer = answers.get(envelope)
        if answer is None:
            try:
                answer = self._condition(envelope.properties) is True
            except Exception:  # our bug; the queue and its other consumers must go on
                log.exception("selector=%r cannot be applied to exchange=%r", self.text, envelope.exchange)
                answer = False
            if len(answers) >= REMEMBERED:
                answers.clear()
            answers[envelope] = answer
        return answer


def _reader(name: str) -> Callable[[Properties], Any]:
    """What finds this identifier's value in a message: None if it is not there."""
    if name in UNSELECTABLE:
        raise SelectorError(f"{name} is not known before a message is delivered")
    accessor = PROPERTIES.get(name)
    if accessor is not None:
        return accessor

    def header(properties: Properties) -> Any:
        headers = properties.headers
        if not headers:
            return None
        value = headers.get(name)
        if isinstance(value, Decimal):
            return value.value / 10**value.scale
        if isinstance(value, bytes):
            return value.decode("utf-8", "surrogateescape")
        return value

    return header


@lru_cache(maxsize=COMPILED)
def compile_selector(text: str) -> Selector:
    """Raise SelectorError, with a text for the client."""
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"invalid selector: it is longer than {MAX_LENGTH} characters")
    rest, converts, has_hyphens = text.strip(), True, False
    found = True
    while found:
        found = False
        for prefix, convert, hyphens in PREFIXES:
            if rest.startswith(prefix):
                rest, found = rest[len(prefix) :].lstrip(), True
                converts = converts if convert is None else convert
                has_hyphens = has_hyphens if hyphens is None else hyphens
    try:
        if not rest:
            raise SelectorError("it is empty")
        if rest[:6].upper() == "XPATH " or rest[:7].upper() == "XQUERY ":
            raise SelectorError("XPATH and XQUERY are not supported")
        condition = parse(rest, _reader, converts=converts, has_hyphens=has_hyphens)
    except SelectorError as error:
        raise SelectorError(f"invalid selector: {error}") from error
    return Selector(text, condition)
