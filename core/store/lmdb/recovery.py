"""What opening a store finds, in time that grows with the number of logs, not of messages."""

from __future__ import annotations

from dataclasses import dataclass
from struct import error as StructError

import lmdb

from leveret.core.errors import StoreUnavailable
from leveret.core.store.lmdb.file import LmdbFile
from leveret.core.store.lmdb.writer import COUNTER, KEY, Meta, Txn

__all__ = ["Recovered", "mark_closed", "recover"]

FORMAT = 1  # of keys and of the databases; records have a version of their own


@dataclass(slots=True)
class Recovered:
    """garbage: (log id, start) -> end of ranges that are settled and not erased yet."""

    was_clean: bool
    next_log_id: int
    next_body: int
    definitions: dict[bytes, bytes]
    metas: dict[int, Meta]
    garbage: dict[tuple[int, int], int]


def recover(file: LmdbFile) -> Recovered:
    """Read what a store begins with, and mark it as open. Raise StoreUnavailable.

    After a crash every message that was there is suspect: it may have been handed out, though nothing says so.
    """
    while True:
        try:
            with file.begin() as txn:
                _check_format(file, txn)
                recovered = _read(file, txn)
                if not recovered.was_clean:
                    for log_id, meta in recovered.metas.items():
                        if meta.messages:
                            meta = recovered.metas[log_id] = meta._replace(suspect_below=meta.next_position)
                            txn.put(COUNTER.pack(log_id), meta.pack(), db=file.databases[b"logs"])
                txn.put(b"is_clean", b"\0", db=file.databases[b"info"])
            return recovered
        except lmdb.MapFullError as error:
            if not file.grow():
                raise StoreUnavailable(f"the store '{file.path}' has no room left in its map") from error
        except lmdb.DiskError as error:
            raise StoreUnavailable(f"the store '{file.path}' cannot be written: {error}") from error
        except (lmdb.Error, StructError) as error:
            raise StoreUnavailable(f"the store '{file.path}' cannot be read: {error}") from error


def mark_closed(file: LmdbFile) -> None:
    """The last commit of a store that loses nothing. Raise lmdb.Error."""
    with file.begin() as txn:
        txn.put(b"is_clean", b"\1", db=file.databases[b"info"])
    file.sync()


def _check_format(file: LmdbFile, txn: Txn) -> None:
    info = file.databases[b"info"]
    found = txn.get(b"format", db=info)
    if found is None:
        txn.put(b"format", COUNTER.pack(FORMAT), db=info)
    elif (version := COUNTER.unpack(found)[0]) != FORMAT:
        raise StoreUnavailable(
            f"the store '{file.path}' has format {version}, and this version of Leveret reads format {FORMAT}: "
            "it was written by a newer one"
        )


def _read(file: LmdbFile, txn: Txn) -> Recovered:
    databases = file.databases
    is_clean = txn.get(b"is_clean", db=databases[b"info"])
    next_log_id = txn.get(b"next_log_id", db=databases[b"info"])
    with txn.cursor(databases[b"bodies"]) as cursor:
        last_body = COUNTER.unpack(cursor.key())[0] if cursor.last() else 0
    with txn.cursor(databases[b"definitions"]) as cursor:
        definitions = {bytes(key): bytes(value) for key, value in cursor}
    with txn.cursor(databases[b"logs"]) as cursor:
        metas = {COUNTER.unpack(key)[0]: Meta.unpack(value) for key, value in cursor}
    with txn.cursor(databases[b"garbage"]) as cursor:
        garbage = {
            (log_id, start): COUNTER.unpack(value)[0]
            for key, value in cursor
            for log_id, start in [KEY.unpack(key)]
        }
    return Recovered(
        is_clean is None or bytes(is_clean) == b"\1",
        1 if next_log_id is None else COUNTER.unpack(next_log_id)[0],
        last_body + 1, definitions, metas, garbage,
    )  # fmt: skip
