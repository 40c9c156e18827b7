"""How a question of the bank is written: as a row of the attack table, by a token of the bank."""

from collections.abc import Mapping
from typing import Any

from tests.attacks.leak_bank.world import bank_world, observation
from tests.attacks.table.rows import Ask, Headers, Row, Store, ask, row
from tests.attacks.table.stores import found

SCOPE = "scope-insufficient"
CLOSED = "interaction-closed"
_TWINS = {
    "T1": ask("GET /Observation/oA-vs", "T1"),
    "T2": ask("GET /Observation/oA-vs", "T2"),
    "T3": ask("POST /Observation", "T3", observation(None)),
    "T4": ask("GET /Observation/oA-vs", "T4"),
    "T5": ask("GET /Observation/oA-vs", "T5"),
    "T6": ask("GET /Observation/oA-lab", "T6"),
}


def question(
    id: str,
    line: str,
    status: int | tuple[int, ...],
    reason: str | None = None,
    *,
    token: str | None = "T1",
    scope: str | None = None,
    claims: Mapping[str, Any] | None = None,
    headers: Headers = (),
    twin: Ask | str | None = "",
    **more: Any,
) -> Row:
    """A question: what is asked with which token, and exactly what comes of it. scope is said instead of the token's."""
    said = dict(claims or {}) | ({} if scope is None else {"scope": scope})
    permitted = _TWINS[token or "T1"] if twin == "" else twin
    return row(
        id,
        line,
        status,
        reason,
        who=token,
        claims=said,
        headers=headers,
        twin=permitted,
        world="bank",
        **more,
    )


def not_found(id: str, place: str, **more: Any) -> Row:
    """A read that is answered as one of what nobody has, whatever the store said."""
    rest = place.partition("/")[2].partition("?")
    other = f"/{place.partition('/')[0]}/none{rest[1]}{rest[2]}"
    said = {"sent": (f"GET {place.partition('?')[0]}",), "same_as": f"GET {other}"} | more
    return question(id, f"GET /{place}", 404, "not-found", **said)


def brings(*keys: str) -> Store:
    """The store answers with the first of these as the match, and the others as what it brought along."""
    world = bank_world()
    modes = ("match", *("include" for _ in keys[1:]))
    return found(
        entries=[
            {"resource": world[key], "search": {"mode": mode}} for key, mode in zip(keys, modes, strict=True)
        ]
    )


def seen(*ids: str) -> set[str]:
    """Observations by id."""
    return {f"Observation/{id_}" for id_ in ids}


# What the hostile store gives to every search, and what the tokens may see of it.
VITAL_SIGNS = seen("oA-vs", "oA-multi", "oBpA")
LABORATORY = seen("oA-lab", "oA-multi")
OWN = VITAL_SIGNS | LABORATORY | seen("oA-none")
