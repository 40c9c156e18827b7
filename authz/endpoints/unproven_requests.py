"""Requests that leave a row though nobody proved who sends them: so many from one address, and no more.

Anybody may say to be a public client, and anybody may open an address with a request_uri that was seen in a browser.
"""

from authz.networks import network_of
from authz.storage.store import Store

_A_MINUTE = 120
_VISITS = 30  # of one pushed request: reloads, tabs and programs that look at a link
_WINDOW_SECONDS = 600  # longer than a request_uri lives


async def may_ask(store: Store, peer: str, *, now: int) -> bool:
    """Whether one more authorization request of a client that proved nothing is kept. Raises StoreUnavailable."""
    return await store.count(f"plain:{network_of(peer)}", window_seconds=60, now=now) <= _A_MINUTE


async def may_guess(store: Store, peer: str, *, now: int) -> bool:
    """Whether one more code may come from here with a proof, after codes that nobody was given. Raises StoreUnavailable."""
    return await store.count(_guesses(peer), window_seconds=60, now=now, by=0) < _A_MINUTE


async def note_guess(store: Store, peer: str, *, now: int) -> None:
    """Count a code that nobody was given. Raises StoreUnavailable."""
    await store.count(_guesses(peer), window_seconds=60, now=now)


async def may_visit(store: Store, request_id: str, *, now: int) -> bool:
    """Whether one more visit of a pushed request is kept. Raises StoreUnavailable."""
    return await store.count(f"visits:{request_id}", window_seconds=_WINDOW_SECONDS, now=now) <= _VISITS


def _guesses(peer: str) -> str:
    return f"guesses:{network_of(peer)}"
