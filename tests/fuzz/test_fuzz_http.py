"""Whatever bytes come in: an answer or an end, never a traceback, and nothing is left."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio
from support.in_process import broker_in_process

from leveret.adapters.http.adapter import HttpAdapter

SEEDS = [
    b"GET /api/overview HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
    b"GET /api/queues/%2F?page=1&columns=name HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
    b"POST /api/whoami HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\n\r\n",
    b"GET /api/vhosts/%zz%2f%00 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nrest",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


def mutated(random_: random.Random, data: bytes) -> bytes:
    mutant = bytearray(data)
    for _ in range(random_.randrange(1, 6)):
        at = random_.randrange(len(mutant))
        match random_.randrange(4):
            case 0:
                mutant[at] = random_.randrange(256)
            case 1:
                del mutant[at : at + random_.randrange(1, 9)]
            case 2:
                mutant[at:at] = bytes(random_.randrange(256) for _ in range(random_.randrange(1, 9)))
            case _:
                mutant += mutant[at:]
        if not mutant:
            break
    return bytes(mutant)


@pytest.mark.parametrize("piece", [0, 1])
async def test_any_bytes(piece: int, caplog: pytest.LogCaptureFixture) -> None:
    random_ = random.Random(piece)
    count = 15 if piece else 120
    async with broker_in_process(adapter=HttpAdapter) as broker:
        for number in range(count):
            seed = SEEDS[number % len(SEEDS)]
            data = seed if number < len(SEEDS) else mutated(random_, seed)
            stream, _, ended = broker.connect()
            with contextlib.suppress(trio.BrokenResourceError):
                for start in range(0, len(data), piece or max(1, len(data))):
                    await stream.send_all(data[start : start + (piece or len(data))])
                await stream.send_eof()
            with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
                async for _ in stream:
                    pass
            await stream.aclose()
            with trio.fail_after(8):
                await ended.wait()
        errors = [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
        assert not errors, (data, errors)
