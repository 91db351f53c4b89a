"""Import of definitions in RabbitMQ's JSON form, from the management API, `leveret ctl` or a file at start.

The functions are synchronous and check no permissions: the caller decides who may import. Files of RabbitMQ 3.x and 4.x are accepted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from leveret.core.definitions.import_items import DefinitionsError, Report
from leveret.core.definitions.import_plan import Plan
from leveret.core.garbage_collection import paused_collector

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
__all__ = ["DefinitionsError", "Report", "import_", "import_slices", "read_file"]

log = logging.getLogger(__name__)


class _NotANumber(ValueError):
    """NaN or an infinity, which Python's parser accepts and JSON does not have."""


def read_file(path: Path) -> Any | None:
    """A document for `import_`; None if the file does not exist. Raise DefinitionsError if it cannot be read or is not JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DefinitionsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DefinitionsError(f"{path} is not UTF-8, from byte {error.start} on") from error
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise DefinitionsError(f"{path} is not JSON: line {error.lineno}, column {error.colno}") from error
    except _NotANumber as error:
        raise DefinitionsError(f"{path} is not JSON: it has NaN or an infinity in it") from error
    except ValueError as error:
        raise DefinitionsError(f"{path} has a number with too many digits in it") from error
    except RecursionError as error:
        raise DefinitionsError(f"{path} has values that are nested too deeply") from error


def _refuse(text: str) -> NoReturn:
    raise _NotANumber(text)


def import_(
    broker: DefinitionsTarget, document: Any, vhost: str | None = None, *, user: str | None = None
) -> Report:
    """Create what the document defines. With `vhost`: its parameters, policies, exchanges, queues and bindings, in that virtual host.

    Existing users, permissions, policies and parameters are replaced; existing exchanges, queues and bindings are left as they are;
    nothing is deleted. Everything is checked before anything is changed. user: gets all permissions in virtual hosts that are created,
    unless the document sets others. Raise DefinitionsError, which names the item, and NotFound for an unknown `vhost`.
    """
    slices = import_slices(broker, document, vhost, user=user)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def import_slices(
    broker: DefinitionsTarget, document: Any, vhost: str | None = None, *, user: str | None = None
) -> Generator[None, None, Report]:
    """Do the same as `import_` in slices of some milliseconds; the generator yields after each of them.

    Nothing is changed before everything is checked; from then on the generator must be run to its end. Items that need something
    which is deleted in between are left out with a warning.
    """
    with paused_collector():
        plan = Plan(broker, document, vhost, user)
        yield from plan.check()
        yield from plan.apply()
    for warning in plan.report.warnings:
        log.warning("definitions: %s", warning)
    counts = " ".join(f"{section}={count}" for section, count in plan.report.counts.items())
    log.info("definitions imported %s", counts or "nothing")
    return plan.report
