"""securus key …

Each verb changes the store; a gateway that runs takes it in with its next round, a few seconds later. What changed
stands in the audit log.
"""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import TypeVar

from authz.clock import system_clock
from authz.keys import by_hand
from authz.keys.by_hand import Successor
from authz.keys.making import ALGORITHMS, read_private_key
from authz.keys.steps import KeySteps
from authz.protocol.jose import OF_ID_TOKENS
from authz.storage.store import Store
from gateway.audit.chains import chain_of
from gateway.audit.keys import reseal_audit_keys
from gateway.audit.log import AuditLog
from gateway.commands.answers import OK, add_group, add_verb, say
from gateway.commands.opened import settings_of, with_store
from gateway.commands.verbs import VERBS
from gateway.settings import GatewaySettings
from gateway.signing_keys import open_homes, open_key_ring

T = TypeVar("T")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    key = add_group(verbs, "key", VERBS["key"].help)
    add_verb(key, "list", "list the keys with their states and times", _list)
    verb = add_verb(key, "rotate", "announce a successor; it signs after keys.announced_for", _rotate)
    verb.add_argument("--now", action="store_true", help="let the successor sign at once")
    known = (*ALGORITHMS, *sorted(OF_ID_TOKENS))
    verb.add_argument("--algorithm", choices=known, help="of several, the one whose key to rotate")
    said = "end a key: drop an announced one, or let its successor sign in the place of an active one"
    verb = add_verb(key, "retire", said, _retire)
    verb.add_argument("kid", metavar="KID")
    said = "the key is compromised: stop publishing it, so that every token that it signed fails"
    verb.add_argument("--remove", action="store_true", help=said)
    said = "take in a private key from a file: PEM of PKCS#8, or one private JWK"
    verb = add_verb(key, "import", said, _import)
    verb.add_argument("file", type=Path, metavar="FILE")
    verb.add_argument("--now", action="store_true", help="let it sign at once")
    add_verb(key, "reseal", "seal every key anew under keys.encryption_key", _reseal)


def _list(options: argparse.Namespace) -> int:
    async def work(store: Store) -> list[dict[str, str | int]]:
        return [
            {"kid": k.kid, "algorithm": k.algorithm, "state": k.state, "created_at": k.created_at,
             "activates_at": k.activates_at, "retires_at": k.retires_at, "removes_at": k.removes_at}
            for k in await store.keys() if k.state != "removed"
        ]  # fmt: skip

    rows = with_store(settings_of(options), work)
    say(
        options,
        rows,
        ["\t".join([str(r["kid"]), str(r["algorithm"]), str(r["state"]), _when(r)]) for r in rows],
    )
    return OK


def _rotate(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(steps: KeySteps) -> Successor:
        if options.now:
            return await by_hand.rotate_now(steps, options.algorithm)
        return await by_hand.rotate(steps, options.algorithm)

    return _tell(options, settings, _with_keys(settings, work))


def _retire(options: argparse.Namespace) -> int:
    end = by_hand.remove if options.remove else by_hand.retire
    ended = _with_keys(settings_of(options), lambda steps: end(steps, options.kid))
    lines = [f"{ended.state} {ended.kid}"]
    if ended.successor is not None:
        lines.append(f"{ended.successor} signs now")
    say(options, {"kid": ended.kid, "state": ended.state, "successor": ended.successor}, lines)
    return OK


def _import(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    private = read_private_key(options.file.read_bytes(), str(options.file))
    successor = _with_keys(settings, lambda steps: by_hand.take_in(steps, private, at_once=options.now))
    return _tell(options, settings, successor)


def _reseal(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    kids = [
        *_with_keys(settings, by_hand.reseal),
        *with_store(settings, lambda store: _audit_keys(settings, store)),
    ]
    say(options, {"resealed": list(kids)}, [f"sealed anew: {len(kids)} keys", *kids])
    return OK


async def _audit_keys(settings: GatewaySettings, store: Store) -> Sequence[str]:
    homes = await open_homes(settings)
    try:
        return await reseal_audit_keys(store, homes)
    finally:
        await homes.close()


def _with_keys(settings: GatewaySettings, work: Callable[[KeySteps], Awaitable[T]]) -> T:
    """The result of work on the keys, what it changed recorded. Raises StoreUnavailable, KeyRingError."""

    async def run(store: Store) -> T:
        audit = await AuditLog.open(store, time, chain=chain_of(settings))
        ring = await open_key_ring(settings, store, clock=system_clock, emit=audit.note)
        try:
            return await ring.change(work)
        finally:
            await ring.close()
            await audit.close()

    return with_store(settings, run)


def _tell(options: argparse.Namespace, settings: GatewaySettings, successor: Successor) -> int:
    """Say which key follows and when, with a warning when caches of our JWKS may not know it by then."""
    value: dict[str, object] = {
        "kid": successor.kid,
        "algorithm": successor.algorithm,
        "signs_in_seconds": successor.signs_in_seconds,
    }
    lines = [f"announced {successor.kid} ({successor.algorithm}); it signs in {successor.signs_in_seconds} s"]
    if successor.signs_in_seconds == 0:
        lines = [f"{successor.kid} ({successor.algorithm}) signs now"]
    if options.now and successor.is_unknown_to_caches:
        warning = (
            "whoever caches /jwks does not know this key yet and refuses what it signs until it reads /jwks again;"
            f" keys.announced_for is {settings.authorization.key_announced_seconds} s to avoid that"
        )
        value["warning"] = warning
        lines.append(f"warning: {warning}")
    say(options, value, lines)
    return OK


def _when(row: dict[str, str | int]) -> str:
    """The moment of the next change."""
    names = {"announced": ("signs from", "activates_at"), "active": ("signs until", "retires_at")}
    said, name = names.get(str(row["state"]), ("published until", "removes_at"))
    moment = datetime.fromtimestamp(int(row[name]), UTC)
    return f"{said} {moment.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
