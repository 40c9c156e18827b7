"""One node of several over one store, in a process of its own, told what to do line by line.

usage: key_node.py STORE ALGORITHMS [PKCS11-MODULE TOKEN PIN]

A line of input is JSON: {"now": seconds} sets the clock, ticks and answers with a token for each algorithm that it
signs; {"verify": [tokens]} answers with those that it does not accept; {"rotate": "announce" | "now"} rotates.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from authz.keys import KeyRing, by_hand
from authz.keys.pkcs11_keys import Pkcs11Keys
from authz.protocol import jose
from authz.protocol.jose import JoseError
from authz.storage.sqlite.store import open_store

START = 1_800_000_000
ANNOUNCED, ACTIVE, KEPT = 1000, 10_000, 5000


async def run(path: str, algorithms: str, *token: str) -> None:
    """Serve until the input ends."""
    now = START
    store = await open_store(Path(path))
    outside = None
    if token:
        outside = await Pkcs11Keys.open(module=token[0], token=token[1], pin=token[2], label="race")
    ring = await KeyRing.open(
        store,
        encryption_key=bytes(32),
        outside=outside,
        algorithms=tuple(algorithms.split(",")),
        announced_seconds=ANNOUNCED,
        active_seconds=ACTIVE,
        published_after_retirement_seconds=KEPT,
        clock=lambda: now,
        emit=lambda event: told.append([str(getattr(event, "kid", "")), str(getattr(event, "state", ""))]),
    )
    tell({"kids": published(ring)})
    while line := await asyncio.to_thread(sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        if "verify" in order:
            tell({"refused": [one for one in order["verify"] if not accepts(ring, one)]})
            continue
        if "rotate" in order:
            work = by_hand.rotate_now if order["rotate"] == "now" else by_hand.rotate
            try:
                tell({"kid": (await ring.change(work)).kid})
            except by_hand.KeyRefused as error:
                tell({"refusal": str(error)})
            continue
        now = order["now"]
        await ring.tick()
        signed = [await ring.sign({"now": now}, typ="at+jwt", algorithm=name) for name in ring.algorithms]
        tell({"tokens": signed, "kids": published(ring), "events": told})
    await ring.close()
    await store.close()


told: list[list[str]] = []


def published(ring: KeyRing) -> list[str]:
    """The kids that this node publishes."""
    keys = ring.jwks()["keys"]
    assert isinstance(keys, list)
    return [key["kid"] for key in keys]


def accepts(ring: KeyRing, signed: str) -> bool:
    """Whether this node takes a token for one of ours now."""
    jws = jose.parse_compact(signed)
    key = ring.public_key(str(jws.header["kid"]))
    try:
        return key is not None and bool(jose.verify(signed, [key]))
    except JoseError:
        return False


def tell(value: object) -> None:
    """Answer in one line."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
