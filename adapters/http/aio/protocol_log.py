"""What aiohttp says of peers that do not speak HTTP: one line each, without a traceback of its parser."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["protocol_log"]


class _OneLine(logging.Filter):
    """A peer's mistake is information; everything else stays what it is: a bug."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "not HTTP: %s", (str(error).partition("\n")[0],)
            record.exc_info = None
            return logging.getLogger().isEnabledFor(logging.INFO)
        return True


def protocol_log() -> logging.Logger:
    """The logger for aiohttp's server."""
    log = logging.getLogger("leveret.adapters.http.aio.protocol")
    if not log.filters:
        log.addFilter(_OneLine())
    return log
