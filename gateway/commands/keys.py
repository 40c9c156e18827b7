"""securus key …"""

import argparse

from authz.clock import system_clock
from authz.keys import KeyRing, KeyRingError, load_or_create_encryption_key
from authz.storage.sqlite import SqliteStore
from gateway.commands.answers import OK, add_group, add_verb, say, settings_of, with_store


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    key = add_group(verbs, "key", "the server's signing keys")
    add_verb(key, "list", "list the keys with their states", _list)
    add_verb(key, "rotate", "announce a successor now", _rotate)


def _list(options: argparse.Namespace) -> int:
    async def work(store: SqliteStore) -> list[dict[str, object]]:
        return [
            {"kid": k.kid, "algorithm": k.algorithm, "state": k.state, "activates_at": k.activates_at,
             "retires_at": k.retires_at}
            for k in await store.keys()
        ]  # fmt: skip

    rows = with_store(settings_of(options), work)
    say(options, rows, [f"{row['kid']}\t{row['algorithm']}\t{row['state']}" for row in rows])
    return OK


def _rotate(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: SqliteStore) -> str:
        key = settings.keys.encryption_key
        if key is None and settings.keys.encryption_key_file is not None:
            key = load_or_create_encryption_key(settings.keys.encryption_key_file)
        if key is None:
            raise KeyRingError("keys.encryption_key names neither a file nor a value")
        ring = await KeyRing.open(
            store,
            encryption_key=key,
            algorithm=settings.authorization.signing_algorithm,
            announced_seconds=settings.authorization.key_announced_seconds,
            active_seconds=settings.authorization.key_active_seconds,
            clock=system_clock,
            emit=lambda event: None,
        )
        return await ring.rotate()

    kid = with_store(settings, work)
    seconds = settings.authorization.key_announced_seconds
    say(options, {"kid": kid, "signs_in_seconds": seconds}, [f"announced {kid}; it signs in {seconds} s"])
    return OK
