"""When certificates expire: of a PEM file, read without a library for X.509."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

__all__ = ["not_after"]

SEQUENCE, VERSION, UTC_TIME = 0x30, 0xA0, 0x17
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def not_after(path: Path) -> list[datetime.datetime]:
    """Of each certificate in the file, in its order. Raise OSError, ValueError."""
    text = path.read_text(encoding="ascii", errors="replace")
    found = []
    for block in text.split(BEGIN)[1:]:
        body, end, _ = block.partition(END)
        if not end:
            raise ValueError(f"{path} is cut off")
        found.append(_not_after(ssl.PEM_cert_to_DER_cert(f"{BEGIN}{body}{END}")))
    return found


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER element there."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    return tag, start, start + length


def _not_after(data: bytes) -> datetime.datetime:
    """RFC 5280 4.1: certificate, tbsCertificate; [version], serial number, algorithm, issuer, validity."""
    try:
        _, at, _ = _element(data, 0)
        _, at, _ = _element(data, at)
        tag, _, end = _element(data, at)
        if tag == VERSION:
            at = end
        for _ in range(3):
            _, _, at = _element(data, at)
        _, at, _ = _element(data, at)
        _, _, at = _element(data, at)  # notBefore
        tag, start, end = _element(data, at)
    except IndexError as error:
        raise ValueError("this is no certificate") from error
    text = data[start:end].decode("ascii", "replace")
    # 4.1.2.5: both end in Z; years of two digits are those up to 2049.
    if tag == UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)
