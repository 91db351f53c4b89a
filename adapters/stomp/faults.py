"""Errors of the STOMP listener: every one of them is an ERROR frame and the end of the connection."""

from __future__ import annotations

from leveret.core import errors

__all__ = ["StompFault", "fault_of"]

# From core's refusals to RabbitMQ's names of AMQP's reply codes; the first class in an error's ancestry that is listed
# decides. The `message` header is the name, the body begins with it in capitals: clients match on both.
NAMES: dict[type[errors.BrokerError], str] = {
    errors.NotFound: "not_found",
    errors.AccessRefused: "access_refused",
    errors.ResourceLocked: "resource_locked",
    errors.PreconditionFailed: "precondition_failed",
    errors.NotAllowed: "not_allowed",
    errors.NotImplementedByBroker: "not_implemented",
    errors.InternalError: "internal_error",
    errors.StoreUnavailable: "internal_error",
}


class StompFault(Exception):
    """The peer's mistake: ERROR with this `message` header and this body, then the end.

    receipt: the receipt that the offending frame asked for, if that is known where it is raised.
    """

    def __init__(self, message: str, detail: str, receipt: str | None = None) -> None:
        super().__init__(detail)
        self.message, self.detail, self.receipt = message, detail, receipt


def fault_of(error: errors.BrokerError) -> StompFault:
    """The one translation point from core's refusals."""
    name = next((NAMES[kind] for kind in type(error).__mro__ if kind in NAMES), "internal_error")
    return StompFault(name, f"{name.upper()} - {error}")
