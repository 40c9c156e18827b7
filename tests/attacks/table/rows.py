"""What a row of the attack table is: requests that must not do harm, what must come of them, and a permitted twin.

A row is named by its case: section, number, a letter for variants and a few words, as in 'A-002b-twice-encoded-dots'.
The five assertions that every row makes stand in tests.attacks.table.play, so a row says only what is its own.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.gateway import Reply, RunningGateway
from tests.support.hostile_upstream import HostileUpstream

Headers = tuple[tuple[str, str], ...]
Store = Callable[[HostileUpstream], None]
Check = Callable[[RunningGateway, Reply], None]

JSON = ("Content-Type", "application/fhir+json")
JSON_PATCH = ("Content-Type", "application/json-patch+json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
LISTENER = "-"  # in place of a reason: the listener refuses before there is a FHIR request


@dataclass(frozen=True)
class Ask:
    """One request: 'GET /Observation?code=x' below the mount, or 'GET //…' and 'GET https:…' as they stand."""

    line: str
    who: str | None = "pA-r"  # None: nobody, without a token
    headers: Headers = ()
    body: bytes = b""
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method."""
        return self.line.partition(" ")[0]

    @property
    def place(self) -> str:
        """What follows the method."""
        return self.line.partition(" ")[2]


@dataclass(frozen=True)
class Row:
    """One attack.

    status   the answers that are right
    reason   the reason code of a refusal; LISTENER when there is none
    sent     what the store sees, in order, as 'GET Patient/A' (a text ending in '*' is a beginning); () nothing,
             None whatever
    shows    the resources in the answer's Bundle, all of them
    holds    texts in the body
    hides    texts that are nowhere in the answer, beside the marker
    unsent   names of request headers that the store does not see
    store    how the store misbehaves
    same_as  another request whose answer is byte for byte this one
    sees     the caller may see the marker
    check    what the case asserts beyond all this
    twin     the permitted shape; twin_sent is what the store sees of it
    """

    id: str
    ask: Ask
    status: tuple[int, ...]
    reason: str | None = None
    sent: tuple[str, ...] | None = ()
    shows: frozenset[str] | None = None
    holds: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    store: Store | None = None
    same_as: str | None = None
    sees: bool = False
    check: Check | None = None
    twin: Ask | None = None
    twin_sent: tuple[str, ...] | None = None
    twin_store: Store | None = None
    world: str = "main"


def content(body: Any) -> bytes:
    """Bytes as they are, anything else as JSON."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def ask(line: str, who: str | None = "pA-r", body: Any = None, headers: Headers = (), **claims: Any) -> Ask:
    """A request. A body that is JSON gets its media type, unless one of headers says another."""
    if body is None:
        return Ask(line, who, headers, b"", claims)
    named = any(name.lower() == "content-type" for name, _ in headers)
    media = JSON_PATCH if isinstance(body, list) else JSON
    if isinstance(body, bytes) and not named and "_search" in line:
        media = FORM
    return Ask(line, who, headers if named else (media, *headers), content(body), claims)


def row(
    id: str,
    line: str,
    status: int | tuple[int, ...],
    reason: str | None = None,
    *,
    who: str | None = "pA-r",
    body: Any = None,
    headers: Headers = (),
    claims: Mapping[str, Any] | None = None,
    twin: Ask | str | None = "GET /Patient/A",
    shows: set[str] | None = None,
    **more: Any,
) -> Row:
    """A row; twin is a request or the line of one by the same caller."""
    said = ask(line, who, body, headers, **(claims or {}))
    permitted = ask(twin, who or "pA-r") if isinstance(twin, str) else twin
    codes = (status,) if isinstance(status, int) else status
    shown = None if shows is None else frozenset(shows)
    return Row(id, said, codes, reason, twin=permitted, shows=shown, **more)
