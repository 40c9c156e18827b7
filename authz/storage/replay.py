"""What was used once within minutes: which claims these are, and how a process remembers those that it knows."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from authz.protocol.tokens import Grant
from authz.storage.claims import Namespace, SingleUse, Then
from authz.storage.grants import GrantUntil, RedeemedCode, Redeeming, Redemption, RefreshToken
from authz.storage.interactions import PushedRequest

# The other claims are of places and deeds, and stay with what they are about.
REPLAY = frozenset({Namespace.DPOP_PROOF, Namespace.CLIENT_ASSERTION, Namespace.REQUEST_OBJECT})

_GENERATION_SECONDS = 30
_MARK = (1 << 60) - 1  # what an int holds in 32 bytes


class UsedKeys:
    """The keys that were claimed, until they expire: about 72 bytes for each.

    A key is known by 60 bits of a hash that nobody outside can compute. Two keys that share them are taken for one:
    with a million claims alive, one proof in 10^12 would be refused that is new; none is accepted that is not.

    What became known in one half minute is forgotten together, when the last of it has expired.
    """

    def __init__(self) -> None:
        self._generations: list[_Generation] = []

    @staticmethod
    def mark(namespace: str, key: bytes) -> int:
        """What stands for a key in this process, and in no other."""
        return hash((namespace, key)) & _MARK

    def is_used(self, mark: int, now: int) -> bool:
        """Whether the key was claimed and its claim has not ended."""
        for generation in self._generations:
            until = generation.marks.get(mark)
            if until is not None and until > now:
                return True
        return False

    def remember(self, marks: Iterable[tuple[int, int]], now: int) -> None:
        """Keep each mark until its second."""
        generations = self._generations
        if not generations or now - generations[-1].since >= _GENERATION_SECONDS:
            self._generations = generations = [each for each in generations if each.latest > now]
            generations.append(_Generation(now))
        generations[-1].add(marks)


class _Generation:
    __slots__ = ("_seconds", "latest", "marks", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.latest = 0
        self.marks: dict[int, int] = {}
        self._seconds: dict[int, int] = {}  # one object for each second, which all marks share

    def add(self, marks: Iterable[tuple[int, int]]) -> None:
        for mark, until in marks:
            self.marks[mark] = self._seconds.setdefault(until, until)
            if until > self.latest:
                self.latest = until


class _Claims(Protocol):
    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool: ...


class _Records(Protocol):
    async def put_pushed_request(self, record: PushedRequest) -> None: ...
    async def put_grant(
        self, grant: Grant, *, expires_at: int, refresh_token: RefreshToken | None = None
    ) -> None: ...
    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None: ...
    async def grant(self, grant_id: str, *, now: int) -> Grant | None: ...


async def one_after_the_other(
    claims: _Claims,
    records: _Records,
    uses: Sequence[SingleUse],
    *,
    now: int,
    then: Then | None,
) -> int:
    """claim_in_order() of a store that makes each claim, and stores what comes then, in a step of its own."""
    for number, use in enumerate(uses):
        if not await claims.claim(use.namespace, use.key, until=use.until, now=now):
            return number
    if isinstance(then, Redeeming):
        redeemed = await records.redeem_code(then.code_id, now=now)
        grant = None
        if redeemed is not None and redeemed.redemption is Redemption.FIRST:
            grant = await records.grant(redeemed.code.grant_id, now=now)
        then = then.judge(redeemed, grant)
    match then:
        case PushedRequest():
            await records.put_pushed_request(then)
        case GrantUntil():
            await records.put_grant(then.grant, expires_at=then.expires_at, refresh_token=then.refresh_token)
        case None:
            pass
    return len(uses)
