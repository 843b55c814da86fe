"""Attacks a dashboard on this machine: `python attack.py PORT TOKEN SECONDS`; prints what it reached as JSON.

It only uses the standard library and runs beside the test, so that it does not delay the test's own requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

HOST = "Host: 127.0.0.1\r\n"
reached: Counter[str] = Counter()


async def connect(port: int, sent: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send the start of a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(sent.encode())
    return reader, writer


async def trickle(port: int, token: str) -> None:
    """Send a head byte by byte."""
    _, writer = await connect(port, f"GET / HTTP/1.1\r\n{HOST}A: ")
    try:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.5)
    finally:
        writer.close()
        reached["slow heads cut off"] += 1


async def pour(port: int, token: str) -> None:
    """Send a body without an end to a dashboard that asks for a token."""
    framing = "Transfer-Encoding: chunked\r\n" if reached["bodies"] % 2 else "Content-Length: 999999999\r\n"
    reached["bodies"] += 1
    _, writer = await connect(port, f"POST /api/studies HTTP/1.1\r\n{HOST}{framing}\r\n")
    try:
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            reached["bytes of bodies"] += 65536
    finally:
        writer.close()


async def stay(port: int, token: str) -> None:
    """Connect, and say nothing."""
    reader, writer = await connect(port, "")
    try:
        await reader.read()
    finally:
        writer.close()
        reached["silent cut off"] += 1


async def take_nothing(port: int, token: str) -> None:
    """Ask for six megabytes as a visitor with a token, and take none of them."""
    _, writer = await connect(port, f"GET /static/bundle.js HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n\r\n")
    try:
        await asyncio.sleep(3600)
    finally:
        writer.close()


async def guess(port: int, token: str) -> None:
    """Ask under wrong names and with wrong tokens, one request after another."""
    for head in (f"Host: evil.example\r\nAuthorization: Bearer {token}\r\n", f"{HOST}Cookie: a=1; {token}\r\n", HOST):
        reader, writer = await connect(port, f"GET /api/studies HTTP/1.1\r\n{head}\r\n")
        reached[f"answered {(await reader.readline()).split()[1].decode()}"] += 1
        writer.close()
    await asyncio.sleep(0.02)


ATTACKS: tuple[tuple[int, Callable[[int, str], Awaitable[None]]], ...] = (
    *((110, trickle), (4, pour), (600, stay), (20, take_nothing), (2, guess)),
)


# What an attack must have reached before it ends; a busy machine needs longer for that.
ENOUGH = {
    "slow heads cut off": 110,
    "silent cut off": 600,
    "answered 403": 11,
    "answered 401": 11,
    "bodies": 5,
}
PATIENCE_S = 80.0


async def again(attack: Callable[[int, str], Awaitable[None]], port: int, token: str) -> None:
    """Repeat an attack that is cut off."""
    while True:
        with contextlib.suppress(OSError, IndexError):
            await attack(port, token)
        await asyncio.sleep(0.05)


async def main(port: int, token: str, seconds: float) -> None:
    """Run all attacks at once, for some seconds and until they have reached enough."""
    began = time.monotonic()
    attacks = [asyncio.create_task(again(attack, port, token)) for count, attack in ATTACKS for _ in range(count)]
    while (passed := time.monotonic() - began) < PATIENCE_S:
        if passed > seconds and all(reached[name] >= least for name, least in ENOUGH.items()):
            break
        await asyncio.sleep(0.05)
    print(json.dumps(reached), flush=True)
    for each in attacks:
        each.cancel()
    await asyncio.wait(attacks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
