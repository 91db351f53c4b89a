"""Logging: the standard library's, one event a line, as text or as JSON."""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.conf.settings import Log
__all__ = ["JsonFormatter", "LogFileError", "TextFormatter", "configure", "set_level"]

# A peer chooses names that we log: it must not be able to write lines of its own.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
_CONTROL |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class LogFileError(Exception):
    """The log file cannot be written: one sentence for the operator."""


def _timestamp(record: logging.LogRecord) -> str:
    """ISO 8601, UTC, milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`2025-01-31T12:00:00.000Z info leveret.core.broker vhost=/ created`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().translate(_CONTROL)
        line = f"{_timestamp(record)} {record.levelname.lower()} {record.name} {message}"
        if record.exc_info:
            line += "\n  " + self.formatException(record.exc_info).replace("\n", "\n  ")
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _timestamp(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)


def configure(settings: Log) -> None:
    """Set up the root logger. Call again to replace what was set up. Raise LogFileError."""
    handler: logging.Handler
    if settings.file:
        try:
            # Follows a rotated file: whoever moves it away needs no signal.
            handler = logging.handlers.WatchedFileHandler(settings.file, encoding="utf-8")
        except OSError as error:
            raise LogFileError(f"the log file {settings.file} cannot be written: {error.strerror}") from error
    else:
        handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(settings.level)
    # A record is a record, wherever it is written: where it came from is in its logger's name.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """At run time."""
    logging.getLogger().setLevel(level.upper())
