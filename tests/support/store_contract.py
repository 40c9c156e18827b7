"""What every Store must do, as one suite: a test class for a store inherits StoreContract and gives a fixture `store`.

Time is an argument everywhere; NOW is any moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from authz.protocol.clients import ProfileName
from authz.protocol.tokens import Grant
from authz.storage.audit_lines import AuditLine
from authz.storage.audit_seals import AuditKey, Hold, Stub, TreeHead
from authz.storage.claims import Namespace, SingleUse
from authz.storage.consents import ConsentVersion, NoRoomLeft, Room
from authz.storage.effects import Emergency, Notification, RateLimit
from authz.storage.grants import (
    AuthorizationCode,
    GrantUntil,
    RedeemedCode,
    Redeeming,
    Redemption,
    RefreshToken,
)
from authz.storage.interactions import BrowserSession, Interaction, PushedRequest
from authz.storage.registrations import (
    InitialAccessToken,
    Registration,
    RegistrationChange,
    RegistrationStatus,
)
from authz.storage.server_keys import StoredKey
from authz.storage.store import AuditConflict, Store, StoreUnavailable
from tests.support.audit_index_contract import AuditIndexContract
from tests.support.consents_contract import CONSENT, OPEN, ConsentsContract

NOW = 1_800_000_000
PUSHED = PushedRequest("request", "portal", {"scope": "openid ü", "state": ""}, None, NOW + 60)
INTERACTION = Interaction("interaction", "request", "portal", {"state": "s"}, "jkt", None, NOW + 900)
SESSION = BrowserSession("session", "csrf", "person", NOW - 5, ("pwd", "otp"), NOW + 3600, "before")
GRANT = Grant(
    grant_id="grant",
    client_id="portal",
    subject="person",
    scope=("openid", "patient/Observation.rs?category=http://hl7.org|laboratory"),
    audience=("https://fhir.example/fhir/r4",),
    context={"patient": "A"},
    claims={
        "fhirUser": "Patient/A",
        "roles": ["patient"],
        "weight": 1.5,
        "nothing": None,
        "deep": {"a": [True]},
    },
    authenticated_at=NOW - 5,
    acr="urn:example:acr",
    amr=("pwd",),
    created_at=NOW,
)
CODE = AuthorizationCode(
    "code", "grant", "portal", "https://portal.example/callback?a=b", "C" * 43, "jkt", "nonce", NOW + 60
)
REFRESH = RefreshToken("refresh", "grant", "portal", GRANT.scope, None, NOW + 90 * 86400)
KEY = StoredKey(
    kid="key",
    algorithm="ES256",
    state="announced",
    encrypted=b"\x00\xff secret",
    public_jwk={"kty": "EC", "kid": "key"},
    created_at=NOW,
    activates_at=NOW + 100,
    retires_at=NOW + 1000,
    removes_at=NOW + 1300,
)
REGISTRATION = Registration(
    client_id="app",
    status=RegistrationStatus.PENDING,
    version=1,
    metadata={"client_name": "Ärzte-App", "redirect_uris": ["https://app.example/"], "jwks": {"keys": [{}]}},
    created_at=NOW,
    changed_at=NOW,
    access_token="digest",
    scope_ceiling=("system/Patient.r", "openid"),
    statement="a.b.c",
    stated={"scope": "openid"},
    expires_at=NOW + 600,
    profile=ProfileName.SMART_SYMMETRIC,
    secret_digest="digest of a secret",
    former_secret="digest of the one before",
    former_until=NOW + 300,
)
CHANGE = RegistrationChange("app", NOW, "vendor", "registered", "why ü", 1)
INITIAL = InitialAccessToken("initial", 2, ("openid",), "alice", "a new app", NOW, NOW + 300)
EMERGENCY = Emergency(
    "e1", "emergency/glass", "https://issuer", "app", "dr1", "A", "unconscious ü", NOW, NOW + 3600, NOW + 9000
)
NOTIFICATION = Notification("n1", "privacy-office", b'{"event":"break-glass-start"}', NOW, NOW + 600)
WHOSE = {"issuer": "https://issuer", "client_id": "app", "subject": "dr1"}


TREE_HEAD = TreeHead(1, b"a.b.c", b"\x00frontier")
STUB = Stub("node-a", 3, 7, b"d.e.f")
AUDIT_KEY = AuditKey(1, "audit-1", "ES256", b"\x00sealed", {"kty": "EC"}, NOW)
HOLD = Hold("hold", NOW - 86400, NOW, "a claim \u00fc", "officer", NOW)


def audit_lines(first: int, last: int, previous: bytes = b"start", chain: str = "") -> list[AuditLine]:
    """A chain of lines first … last behind previous."""
    made = []
    for sequence in range(first, last + 1):
        line = b'{"seq":%d}' % sequence
        digest = sha256(previous + line).digest()
        made.append(AuditLine(sequence, previous, digest, line, chain))
        previous = digest
    return made


async def complete(
    store: Store,
    *,
    code: AuthorizationCode = CODE,
    grant: Grant = GRANT,
    now: int = NOW,
    consents: Sequence[tuple[ConsentVersion, Room | None]] = (),
) -> bool:
    """complete_authorization of the records above."""
    return await store.complete_authorization(
        request_id="request", interaction_id="interaction", grant=grant, code=code, now=now, consents=consents
    )


async def winners(attempt: Callable[[], Awaitable[object]], at_once: int = 20) -> int:
    """How many of so many attempts at once succeeded."""
    return sum(bool(result) for result in await asyncio.gather(*(attempt() for _ in range(at_once))))


class _Judge:
    """Says always the same, and keeps what it was told."""

    def __init__(self, said: GrantUntil | None) -> None:
        self._said = said
        self.told: list[tuple[RedeemedCode | None, Grant | None]] = []

    def __call__(self, redeemed: RedeemedCode | None, grant: Grant | None) -> GrantUntil | None:
        self.told.append((redeemed, grant))
        return self._said


def _uses(*keys: bytes) -> list[SingleUse]:
    return [SingleUse(Namespace.DPOP_PROOF, key, NOW + 60) for key in keys]


class StoreContract(ConsentsContract, AuditIndexContract):
    """The contract of authz.storage.store.Store."""

    # Single-use claims

    async def test_only_the_first_claim_of_a_key_wins(self, store: Store) -> None:
        assert await winners(lambda: store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)) == 1
        assert not await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 600, now=NOW + 59)

    async def test_a_claim_that_is_given_back_has_a_first_caller_again(self, store: Store) -> None:
        for key in (b"k", b"l"):
            assert await store.claim(Namespace.EXPORT_SLOT, key, until=NOW + 60, now=NOW)
        assert await store.claim(Namespace.EXPORT_END, b"k", until=NOW + 60, now=NOW)
        await store.release(Namespace.EXPORT_SLOT, b"k")
        await store.release(Namespace.EXPORT_SLOT, b"never claimed")
        assert not await store.claim(Namespace.EXPORT_SLOT, b"l", until=NOW + 60, now=NOW)
        assert not await store.claim(Namespace.EXPORT_END, b"k", until=NOW + 60, now=NOW)
        assert await winners(lambda: store.claim(Namespace.EXPORT_SLOT, b"k", until=NOW + 60, now=NOW)) == 1

    async def test_a_claim_is_renewed_by_who_has_it_and_by_nobody_else(self, store: Store) -> None:
        place, key = Namespace.AUDIT_FEED, b"repository"
        assert not await store.renew(place, key, held_until=NOW + 30, until=NOW + 60)  # nobody has it
        assert await store.claim(place, key, until=NOW + 30, now=NOW)
        assert await store.renew(place, key, held_until=NOW + 30, until=NOW + 50)
        assert not await store.renew(place, key, held_until=NOW + 30, until=NOW + 90)
        assert not await store.renew(Namespace.EXPORT_SLOT, key, held_until=NOW + 50, until=NOW + 90)
        assert not await store.claim(place, key, until=NOW + 90, now=NOW + 49)
        assert await store.claim(place, key, until=NOW + 80, now=NOW + 50)  # it ended, and is another's
        assert not await store.renew(place, key, held_until=NOW + 50, until=NOW + 90)
        assert await store.claimed_until(place, key) == NOW + 80
        assert await store.claimed_until(Namespace.EXPORT_SLOT, key) is None
        assert await store.renew(place, key, held_until=NOW + 80, until=NOW + 51)  # given back
        assert await winners(lambda: store.claim(place, key, until=NOW + 90, now=NOW + 51)) == 1

    async def test_no_clock_ends_the_place_of_who_delivers_a_feed(self, store: Store) -> None:
        """Neither one of another node, by which its mark is long over: whoever has it is at work."""
        place = Namespace.AUDIT_FEED
        assert await store.claim(place, b"repository", until=NOW - 3600, now=0)
        assert await store.claim(Namespace.EXPORT_SLOT, b"slot", until=NOW - 3600, now=0)
        assert await store.remove_expired(now=NOW, at_most=1000) == 1
        assert await store.claimed_until(Namespace.EXPORT_SLOT, b"slot") is None
        assert await store.claimed_until(place, b"repository") == NOW - 3600
        assert not await store.claim(place, b"repository", until=NOW + 30, now=0)
        assert await store.renew(place, b"repository", held_until=NOW - 3600, until=NOW - 3592)

    async def test_a_claim_ends_at_its_until_and_not_a_second_earlier(self, store: Store) -> None:
        assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)
        assert not await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 120, now=NOW + 59)
        assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 120, now=NOW + 60)
        assert not await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 180, now=NOW + 61)

    async def test_a_refused_claim_does_not_prolong_the_first(self, store: Store) -> None:
        assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)
        assert not await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 6000, now=NOW)
        assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 120, now=NOW + 60)

    async def test_a_claim_that_is_over_before_it_begins_is_won_by_nobody(self, store: Store) -> None:
        assert await winners(lambda: store.claim(Namespace.DPOP_PROOF, b"k", until=NOW, now=NOW)) == 0

    async def test_a_key_in_one_namespace_never_meets_the_same_key_in_another(self, store: Store) -> None:
        for namespace in Namespace:
            assert await store.claim(namespace, b"\x00\xff", until=NOW + 60, now=NOW)

    async def test_keys_are_compared_byte_for_byte(self, store: Store) -> None:
        for key in (b"", b"\x00", b"\x00\x00", b"a", b"A", b"a ", b"\xc3\xa4", b"a\xcc\x88"):
            assert await store.claim(Namespace.REQUEST_OBJECT, key, until=NOW + 60, now=NOW)

    # Several claims of one request

    async def test_claims_in_order_stop_at_the_first_that_was_claimed(self, store: Store) -> None:
        assert await store.claim(Namespace.DPOP_PROOF, b"b", until=NOW + 60, now=NOW)
        assert await store.claim_in_order(_uses(b"a", b"b", b"c"), now=NOW) == 1
        assert not await store.claim(Namespace.DPOP_PROOF, b"a", until=NOW + 60, now=NOW)
        assert await store.claim(Namespace.DPOP_PROOF, b"c", until=NOW + 60, now=NOW)
        assert await store.claim_in_order((), now=NOW) == 0

    async def test_of_claims_in_order_one_that_is_over_before_it_begins_is_won_by_nobody(
        self, store: Store
    ) -> None:
        uses = [*_uses(b"a"), SingleUse(Namespace.DPOP_PROOF, b"b", NOW), *_uses(b"c")]
        assert await store.claim_in_order(uses, now=NOW, then=PUSHED) == 1
        assert await store.pushed_request("request", now=NOW) is None
        assert await store.claim_in_order(_uses(b"c", b"b"), now=NOW, then=PUSHED) == 2

    async def test_of_claims_in_order_a_key_counts_once_in_a_request_too(self, store: Store) -> None:
        assert await store.claim_in_order(_uses(b"a", b"a"), now=NOW, then=PUSHED) == 1
        assert await store.pushed_request("request", now=NOW) is None

    async def test_what_hangs_on_claims_is_stored_when_all_are_won(self, store: Store) -> None:
        grant = GrantUntil(GRANT, NOW + 300)
        assert await store.claim_in_order(_uses(b"a", b"b"), now=NOW, then=grant) == 2
        assert await store.grant("grant", now=NOW) == GRANT
        assert await store.claim_in_order((), now=NOW, then=PUSHED) == 0
        assert await store.pushed_request("request", now=NOW) == PUSHED
        other = GrantUntil(replace(GRANT, grant_id="other"), NOW + 300)
        assert await store.claim_in_order(_uses(b"c", b"b"), now=NOW, then=other) == 1
        assert await store.grant("other", now=NOW) is None
        longer = GrantUntil(replace(GRANT, used_at=NOW), NOW + 1)
        assert await store.claim_in_order(_uses(b"d"), now=NOW, then=longer) == 1
        assert await store.grant("grant", now=NOW + 299) == replace(GRANT, used_at=NOW)

    async def test_of_many_that_share_a_key_one_wins_it_and_stores_what_hangs_on_it(
        self, store: Store
    ) -> None:
        async def attempt(number: int) -> int:
            grant = GrantUntil(replace(GRANT, grant_id=f"grant{number}"), NOW + 300)
            uses = _uses(b"own %d" % number, b"shared", b"last %d" % number)
            return await store.claim_in_order(uses, now=NOW, then=grant)

        won = await asyncio.gather(*map(attempt, range(20)))
        assert sorted(won) == [1] * 19 + [3]
        stored = [await store.grant(f"grant{number}", now=NOW) for number in range(20)]
        assert [grant is not None for grant in stored] == [each == 3 for each in won]
        for number, each in enumerate(won):
            last = await store.claim(Namespace.DPOP_PROOF, b"last %d" % number, until=NOW + 60, now=NOW)
            assert last == (each != 3)

    async def test_counters_count_in_their_window_and_apart(self, store: Store) -> None:
        start = NOW // 60 * 60
        assert [await store.count("a", window_seconds=60, now=start) for _ in range(3)] == [1, 2, 3]
        assert await store.count("a", window_seconds=60, now=start + 59) == 4
        assert await store.count("a", window_seconds=60, now=start + 60) == 1
        assert await store.count("b", window_seconds=60, now=start) == 1
        assert await store.count("a", window_seconds=3600, now=start) == 1

    async def test_what_was_counted_can_be_taken_back(self, store: Store) -> None:
        start = NOW // 60 * 60
        counted = [await store.count("a", window_seconds=60, now=start, by=by) for by in (1, 1, -1, -1, 1)]
        assert counted == [1, 2, 1, 0, 1]

    # Pushed requests, interactions, sessions

    async def test_very_many_grants_of_a_client_come_newest_first_while_others_have_their_turn(
        self, store: Store
    ) -> None:
        """As many as portions hold, one less and one more, of the same moments and of others."""
        for count in (99, 100, 101, 450):
            made = [
                replace(GRANT, grant_id=f"{count}-{n}", client_id=f"of-{count}", created_at=NOW - n * 7 % 13)
                for n in range(count)
            ]
            for grant in made:
                await store.put_grant(grant, expires_at=NOW + 60)
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(others())
            found = await store.grants(subject=None, client_id=f"of-{count}", now=NOW)
            task.cancel()
            assert list(found) == sorted(made, key=lambda grant: (-grant.created_at, grant.grant_id))
            assert turns >= count // 100 - 1

    async def test_records_come_back_as_they_were_put(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)
        await store.put_session(SESSION)
        await store.put_grant(GRANT, expires_at=NOW + 300)
        await store.put_refresh_token(REFRESH)
        assert await store.pushed_request("request", now=NOW) == PUSHED
        assert await store.interaction("interaction", now=NOW) == INTERACTION
        assert await store.session("session", now=NOW) == SESSION
        assert await store.grant("grant", now=NOW) == GRANT
        assert await store.refresh_token("refresh", now=NOW) == REFRESH

    async def test_a_grant_and_its_refresh_token_are_stored_together(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300, refresh_token=REFRESH)
        assert await store.refresh_token("refresh", now=NOW) == REFRESH
        assert await store.grant("grant", now=REFRESH.expires_at - 1) == GRANT
        again = replace(REFRESH, id="another")
        with pytest.raises(StoreUnavailable):
            await store.put_grant(replace(GRANT, used_at=NOW), expires_at=NOW + 300, refresh_token=REFRESH)
        assert await store.grant("grant", now=NOW) == GRANT
        await store.put_grant(replace(GRANT, used_at=NOW), expires_at=NOW + 300, refresh_token=again)
        assert await store.grant("grant", now=NOW) == replace(GRANT, used_at=NOW)
        assert await store.refresh_token("another", now=NOW) == again

    async def test_a_record_is_gone_in_the_second_it_expires(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)
        await store.put_session(SESSION)
        await store.put_grant(GRANT, expires_at=NOW + 300)
        for read, id, expires_at in (
            (store.pushed_request, "request", PUSHED.expires_at),
            (store.interaction, "interaction", INTERACTION.expires_at),
            (store.session, "session", SESSION.expires_at),
            (store.grant, "grant", NOW + 300),
        ):
            assert await read(id, now=expires_at - 1) is not None
            assert await read(id, now=expires_at) is None

    @pytest.mark.parametrize("id", ["", "REQUEST", "request ", "' OR 1=1 --", "request\x00", "%", "_______"])
    async def test_ids_match_byte_for_byte(self, store: Store, id: str) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_session(replace(SESSION, id="request"))
        assert await store.pushed_request(id, now=NOW) is None
        assert await store.session(id, now=NOW) is None
        await store.delete_session(id)
        assert await store.session("request", now=NOW) is not None

    async def test_a_pushed_request_is_put_once(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        with pytest.raises(StoreUnavailable):
            await store.put_pushed_request(replace(PUSHED, client_id="other"))
        assert await store.pushed_request("request", now=NOW) == PUSHED

    async def test_a_kept_pushed_request_lives_on_with_its_own_time_unchanged(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await store.keep_pushed_request("request", until=NOW + 900, now=NOW + 59)
        assert await store.pushed_request("request", now=NOW + 899) == PUSHED
        assert await store.remove_expired(now=NOW + 899, at_most=1000) == 0
        assert await complete(store, now=NOW + 899, code=replace(CODE, expires_at=NOW + 959))

    async def test_keeping_never_shortens_and_never_revives(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await store.keep_pushed_request("request", until=NOW + 1, now=NOW)
        assert await store.pushed_request("request", now=NOW + 59) == PUSHED
        assert not await store.keep_pushed_request("request", until=NOW + 900, now=NOW + 60)
        assert await store.pushed_request("request", now=NOW + 60) is None
        assert await store.refuse_authorization(request_id="request", interaction_id="", now=NOW)
        assert not await store.keep_pushed_request("request", until=NOW + 900, now=NOW)

    async def test_an_interaction_is_stored_with_what_it_keeps_and_without_it(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        for request, kept in (("request", True), ("unknown", False)):
            later = replace(INTERACTION, patient=request)
            done = await store.keep_pushed_request(request, until=NOW + 900, now=NOW, interaction=later)
            assert done is kept
            assert await store.interaction("interaction", now=NOW) == later
        assert await store.pushed_request("request", now=NOW + 899) == PUSHED

    async def test_interactions_and_sessions_take_their_next_state(self, store: Store) -> None:
        await store.put_interaction(INTERACTION)
        await store.put_session(SESSION)
        later = replace(INTERACTION, session_id="session", signed_in=True, patient="A", expires_at=NOW + 1)
        await store.put_interaction(later)
        await store.put_session(replace(SESSION, subject=None, expires_at=NOW + 1))
        assert await store.interaction("interaction", now=NOW) == later
        assert (await store.session("session", now=NOW)) == replace(SESSION, subject=None, expires_at=NOW + 1)
        assert await store.session("session", now=NOW + 1) is None
        await store.delete_interaction("interaction")
        await store.delete_session("session")
        assert await store.interaction("interaction", now=NOW) is None
        assert await store.session("session", now=NOW) is None

    # Completing and refusing an authorization

    async def test_P8_a_pushed_request_is_completed_once(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)
        attempts = iter(range(20))

        async def attempt() -> bool:
            number = next(attempts)
            grant = replace(GRANT, grant_id=f"grant{number}")
            return await complete(
                store, grant=grant, code=replace(CODE, id=f"code{number}", grant_id=grant.grant_id)
            )

        assert await winners(attempt) == 1
        codes = [await store.redeem_code(f"code{number}", now=NOW) for number in range(20)]
        grants = [await store.grant(f"grant{number}", now=NOW) for number in range(20)]
        assert sum(code is not None for code in codes) == 1
        assert sum(grant is not None for grant in grants) == 1
        assert await store.interaction("interaction", now=NOW) is None
        assert await store.pushed_request("request", now=NOW) is None

    async def test_an_expired_pushed_request_is_not_completed_and_nothing_is_written(
        self, store: Store
    ) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)
        assert not await complete(store, now=PUSHED.expires_at)
        assert await store.redeem_code("code", now=NOW) is None
        assert await store.grant("grant", now=NOW) is None
        assert await store.interaction("interaction", now=NOW) == INTERACTION

    async def test_completing_is_all_or_nothing(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)
        assert await complete(store)
        again = replace(PUSHED, id="second")
        await store.put_pushed_request(again)
        with pytest.raises(StoreUnavailable):  # the code's id is taken: the whole transaction fails
            await store.complete_authorization(
                request_id="second",
                interaction_id="none",
                grant=replace(GRANT, grant_id="other"),
                code=replace(CODE, grant_id="other"),
                now=NOW,
            )
        assert await store.pushed_request("second", now=NOW) == again
        assert await store.grant("other", now=NOW) is None
        assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)  # the store goes on

    async def test_of_many_grants_those_are_told_that_are_live(self, store: Store) -> None:
        for name, lives in (("a", 300), ("b", 300), ("c", 10), ("d' OR 1=1", 300)):
            await store.put_grant(replace(GRANT, grant_id=name), expires_at=NOW + lives)
        await store.revoke_grant("b", now=NOW, keep_until=NOW + 600)
        asked = ["a", "b", "c", "d' OR 1=1", "unknown", ""]
        assert await store.live_grants(asked, now=NOW + 10) == {"a", "d' OR 1=1"}
        for name in asked:
            alone = await store.live_grants([name], now=NOW + 10)
            assert bool(alone) == (await store.grant(name, now=NOW + 10) is not None)
        assert await store.live_grants([], now=NOW) == frozenset()

    async def test_a_consent_is_written_with_the_code_or_neither_is(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await store.add_consent(CONSENT)
        with pytest.raises(StoreUnavailable):  # there is one with its id
            await complete(store, consents=[(replace(CONSENT, id="new"), None), (CONSENT, None)])
        assert await store.consent(CONSENT.base, "new") is None
        assert await store.redeem_code("code", now=NOW) is None
        assert await store.pushed_request("request", now=NOW) == PUSHED
        new = replace(CONSENT, id="new")
        with pytest.raises(NoRoomLeft):
            await complete(store, consents=[(new, Room(frozenset({"active"}), 1, None))])
        assert await store.consent(CONSENT.base, "new") is None
        assert await store.redeem_code("code", now=NOW) is None
        assert await store.pushed_request("request", now=NOW) == PUSHED
        assert await complete(store, consents=[(new, Room(frozenset({"active"}), 2, None))])
        assert not await complete(store, consents=[(replace(CONSENT, id="newer"), None)])
        assert await store.consent(CONSENT.base, "new") == new
        assert await store.consent(CONSENT.base, "newer") is None

    async def test_of_a_request_that_was_completed_it_is_not_asked_whether_there_is_room(
        self, store: Store
    ) -> None:
        none, two = Room(frozenset(OPEN), 0, None), replace(CONSENT, id="two", provisions=4)
        consents = [(replace(CONSENT, id="one", provisions=4), Room(frozenset(OPEN), 9, 7))]
        assert not await complete(store, consents=[(two, none)])
        await store.put_pushed_request(PUSHED)
        with pytest.raises(NoRoomLeft):
            await complete(store, consents=[(two, none)])
        with pytest.raises(NoRoomLeft):  # seven provisions are fewer than those of both
            await complete(store, consents=[*consents, (two, Room(frozenset(OPEN), 9, 7))])
        assert await complete(store, consents=[*consents, (two, Room(frozenset(OPEN), 9, 8))])
        assert not await complete(store, consents=[(two, none)])

    async def test_consents_that_are_written_together_fit_together(self, store: Store) -> None:
        """Of two patients or of one, in whichever order others name them at the same moment."""
        room = Room(frozenset(OPEN), 3, None)

        def version(number: int, patient: str) -> tuple[ConsentVersion, Room]:
            return replace(CONSENT, id=f"{patient}{number}", patient=patient), room

        async def write(number: int, patients: str) -> bool:
            consents = [version(10 * number + place, patient) for place, patient in enumerate(patients)]
            request, code = f"r{number}", replace(CODE, id=f"code{number}", grant_id=f"g{number}")
            await store.put_pushed_request(replace(PUSHED, id=request))
            try:
                return await store.complete_authorization(
                    request_id=request, interaction_id="", grant=replace(GRANT, grant_id=code.grant_id),
                    code=code, now=NOW, consents=consents,
                )  # fmt: skip
            except NoRoomLeft:
                return False

        written = await asyncio.gather(*(write(n, "AB" if n % 2 else "BA") for n in range(8)))
        assert written.count(True) == 3
        assert not await write(8, "CCCC")
        assert await write(9, "CCC")
        for patient in "ABC":
            assert (await store.consents_standing(CONSENT.base, patient, OPEN, beside="")).consents == 3

    async def test_A5_a_refusal_consumes_the_pushed_request(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        await store.put_interaction(INTERACTION)

        async def refuse() -> bool:
            return await store.refuse_authorization(
                request_id="request", interaction_id="interaction", now=NOW
            )

        assert await winners(refuse) == 1
        assert not await complete(store)
        assert await store.grant("grant", now=NOW) is None
        assert await store.interaction("interaction", now=NOW) is None

    # Codes

    async def test_a_visit_is_its_session_and_its_interaction_while_its_request_waits(
        self, store: Store
    ) -> None:
        async def seen(session: str, interaction: str, now: int = NOW) -> object:
            return await store.visit(session_id=session, interaction_id=interaction, now=now)

        hostile = replace(
            INTERACTION, id="hostile", request_id='"ü\\', parameters={"request_id": "request", 'a"b': "\t"}
        )
        for interaction in (INTERACTION, hostile):
            await store.put_pushed_request(replace(PUSHED, id=interaction.request_id, expires_at=NOW + 5_000))
            await store.put_interaction(interaction)
        other = replace(INTERACTION, id="other", request_id="nowhere", parameters={"request_id": "request"})
        await store.put_interaction(other)
        await store.put_session(SESSION)
        assert await seen("session", "interaction") == (SESSION, INTERACTION)
        assert await seen("session", "hostile") == (SESSION, hostile)
        assert await seen("session", "other") is None
        assert await seen("session", "nothing") is None
        assert await seen("nobody", "interaction") is None
        last = INTERACTION.expires_at
        assert await seen("session", "interaction", last - 1) == (SESSION, INTERACTION)
        assert await seen("session", "interaction", last) is None
        await store.put_interaction(replace(INTERACTION, expires_at=NOW + 9_000))
        assert await seen("session", "interaction", SESSION.expires_at - 1) is not None
        assert await seen("session", "interaction", SESSION.expires_at) is None
        await store.put_session(replace(SESSION, expires_at=NOW + 9_000))
        assert await seen("session", "interaction", NOW + 4_999) is not None
        assert await seen("session", "interaction", NOW + 5_000) is None

    async def test_A2_a_code_is_first_once_and_then_again(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        redeemed = await asyncio.gather(*(store.redeem_code("code", now=NOW) for _ in range(20)))
        assert {r.code for r in redeemed if r is not None} == {CODE}
        assert sorted(str(r.redemption) for r in redeemed if r is not None) == ["again"] * 19 + ["first"]

    async def test_a_code_that_expired_unused_or_never_was_is_none(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        assert await store.redeem_code("other", now=NOW) is None
        assert await store.redeem_code("code", now=CODE.expires_at) is None
        assert await store.redeem_code("code", now=CODE.expires_at + 1) is None

    async def test_A3_a_used_code_is_remembered_until_its_grant_ends(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        first = await store.redeem_code("code", now=NOW + 59)
        await store.put_refresh_token(REFRESH)
        last = REFRESH.expires_at - 1
        assert await store.remove_expired(now=last, at_most=1000) == 0
        again = await store.redeem_code("code", now=last)
        assert first is not None
        assert first.redemption is Redemption.FIRST
        assert again is not None
        assert again.redemption is Redemption.AGAIN
        assert await store.redeem_code("code", now=REFRESH.expires_at) is None

    async def test_A3_a_used_code_is_remembered_when_its_grant_was_revoked(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        await store.redeem_code("code", now=NOW)
        await store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)
        again = await store.redeem_code("code", now=NOW + 59)
        assert again is not None
        assert again.redemption is Redemption.AGAIN

    # Codes that are redeemed with the claims of their request

    async def test_A2_a_code_is_redeemed_when_all_claims_are_won_and_not_before(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        judge = _Judge(GrantUntil(replace(GRANT, used_at=NOW), NOW + 300, REFRESH))
        redeeming = Redeeming("code", judge)
        assert await store.claim(Namespace.DPOP_PROOF, b"b", until=NOW + 60, now=NOW)
        assert await store.claim_in_order(_uses(b"a", b"b"), now=NOW, then=redeeming) == 1
        assert judge.told == []
        assert await store.claim_in_order(_uses(b"c"), now=NOW, then=redeeming) == 1
        assert judge.told[-1] == (RedeemedCode(CODE, Redemption.FIRST), GRANT)
        assert await store.grant("grant", now=NOW + 299) == replace(GRANT, used_at=NOW)
        assert await store.refresh_token("refresh", now=NOW) == REFRESH
        second = _Judge(None)
        assert await store.claim_in_order((), now=NOW, then=Redeeming("code", second)) == 0
        assert second.told[-1] == (RedeemedCode(CODE, Redemption.AGAIN), None)

    async def test_A4_a_code_is_used_whatever_its_judge_says(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        refusing = _Judge(None)
        assert await store.claim_in_order(_uses(b"a"), now=NOW, then=Redeeming("code", refusing)) == 1
        assert refusing.told[-1] == (RedeemedCode(CODE, Redemption.FIRST), GRANT)
        assert await store.grant("grant", now=NOW) == GRANT
        again = await store.redeem_code("code", now=NOW)
        assert again is not None
        assert again.redemption is Redemption.AGAIN

    async def test_of_no_code_and_of_no_grant_a_judge_is_told_nothing(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        judge = _Judge(None)
        await store.claim_in_order(_uses(b"a"), now=NOW, then=Redeeming("other", judge))
        expired = CODE.expires_at
        await store.claim_in_order((), now=expired, then=Redeeming("code", judge))
        await store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)
        await store.claim_in_order(_uses(b"c"), now=NOW, then=Redeeming("code", judge))
        assert judge.told == [(None, None), (None, None), (RedeemedCode(CODE, Redemption.FIRST), None)]

    async def test_A2_of_many_who_redeem_one_code_with_claims_of_their_own_one_is_first(
        self, store: Store
    ) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        judges = [_Judge(None) for _ in range(20)]
        won = await asyncio.gather(
            *(
                store.claim_in_order(_uses(b"own %d" % number), now=NOW, then=Redeeming("code", judge))
                for number, judge in enumerate(judges)
            )
        )
        assert won == [1] * 20
        said = [redeemed.redemption for judge in judges for redeemed, _ in judge.told[-1:] if redeemed]
        assert sorted(map(str, said)) == ["again"] * 19 + ["first"]

    # Grants and refresh tokens

    async def test_a_grant_may_live_longer_but_never_shorter(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        await store.put_grant(GRANT, expires_at=NOW + 60)
        assert await store.grant("grant", now=NOW + 299) == GRANT
        await store.put_grant(replace(GRANT, acr=None), expires_at=NOW + 600)
        assert await store.grant("grant", now=NOW + 599) == replace(GRANT, acr=None)

    async def test_a_revoked_grant_stays_revoked(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        await store.put_refresh_token(REFRESH)
        assert await winners(lambda: store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)) == 1
        # A token request that was under way writes what it has to write.
        await store.put_grant(GRANT, expires_at=NOW + 900)
        await store.put_refresh_token(replace(REFRESH, id="late"))
        assert await store.grant("grant", now=NOW) is None
        assert await store.refresh_token("refresh", now=NOW) is None
        assert await store.refresh_token("late", now=NOW) is None

    async def test_revoking_an_unknown_or_expired_grant_is_recorded_all_the_same(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW)
        assert not await store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)
        assert not await store.revoke_grant("unknown", now=NOW, keep_until=NOW + 300)
        assert set((await store.revocations_since(0))[1]) == {"grant", "unknown"}

    async def test_a_grant_lives_as_long_as_its_refresh_token(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 60)
        await store.put_refresh_token(REFRESH)
        assert await store.grant("grant", now=REFRESH.expires_at - 1) == GRANT
        assert await store.refresh_token("refresh", now=REFRESH.expires_at - 1) == REFRESH
        assert await store.refresh_token("refresh", now=REFRESH.expires_at) is None

    async def test_a_replaced_refresh_token_is_good_until_its_grace_ends_and_known_after(
        self, store: Store
    ) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        await store.put_refresh_token(REFRESH)
        for second, name in ((0, "next"), (29, "again")):
            by = replace(REFRESH, id=name, expires_at=REFRESH.expires_at + 1)
            assert await store.replace_refresh_token("refresh", by=by, now=NOW + second, grace_seconds=30)
            assert await store.refresh_token(name, now=NOW + second) == by
        late = replace(REFRESH, id="late")
        assert not await store.replace_refresh_token("refresh", by=late, now=NOW + 30, grace_seconds=30)
        assert await store.refresh_token("late", now=NOW + 30) is None
        assert await store.refresh_token("refresh", now=NOW + 30) == replace(REFRESH, replaced_at=NOW)
        assert await store.grant("grant", now=REFRESH.expires_at) == GRANT

    async def test_an_unknown_refresh_token_has_no_successor(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        assert not await store.replace_refresh_token("none", by=REFRESH, now=NOW, grace_seconds=30)
        assert await store.refresh_token("refresh", now=NOW) is None

    async def test_live_grants_are_found_by_person_and_by_client(self, store: Store) -> None:
        first = GRANT
        second = replace(GRANT, grant_id="second", client_id="other", created_at=NOW + 1)
        third = replace(GRANT, grant_id="third", subject="somebody", created_at=NOW + 2)
        for grant in (first, second, third, replace(GRANT, grant_id="gone"), replace(GRANT, grant_id="old")):
            await store.put_grant(grant, expires_at=NOW + (10 if grant.grant_id == "old" else 300))
        await store.revoke_grant("gone", now=NOW, keep_until=NOW + 300)

        async def found(subject: str | None, client_id: str | None) -> list[str]:
            grants = await store.grants(subject=subject, client_id=client_id, now=NOW + 10)
            return [grant.grant_id for grant in grants]

        assert await found("person", None) == ["second", "grant"]
        assert await found(None, "portal") == ["third", "grant"]
        assert await found("person", "portal") == ["grant"]
        assert await found(None, None) == ["third", "second", "grant"]
        assert await found("nobody", None) == []

    async def test_a_refresh_token_needs_its_grant(self, store: Store) -> None:
        with pytest.raises(StoreUnavailable):
            await store.put_refresh_token(REFRESH)
        assert await store.refresh_token("refresh", now=NOW) is None

    async def test_I2_revocations_are_read_in_order_each_once(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        assert await store.revocations_since(0) == (0, [])
        await store.revoke_token("token1", now=NOW, keep_until=NOW + 300)
        await store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)
        sequence, ids = await store.revocations_since(0)
        assert list(ids) == ["token1", "grant"]
        assert await store.revocations_since(sequence) == (sequence, [])
        await store.revoke_token("token2", now=NOW, keep_until=NOW + 300)
        assert list((await store.revocations_since(sequence))[1]) == ["token2"]

    async def test_a_revocation_said_again_is_seen_again_and_never_kept_shorter(self, store: Store) -> None:
        await store.revoke_token("token", now=NOW, keep_until=NOW + 300)
        sequence, _ = await store.revocations_since(0)
        await store.revoke_token("token", now=NOW, keep_until=NOW + 10)
        newest, ids = await store.revocations_since(sequence)
        assert newest > sequence
        assert list(ids) == ["token"]
        assert await store.remove_expired(now=NOW + 299, at_most=1000) == 0
        assert await store.remove_expired(now=NOW + 300, at_most=1000) == 1

    async def test_sequences_of_revocations_are_not_used_again(self, store: Store) -> None:
        await store.revoke_token("token1", now=NOW, keep_until=NOW + 1)
        sequence, _ = await store.revocations_since(0)
        await store.remove_expired(now=NOW + 1, at_most=1000)
        await store.revoke_token("token2", now=NOW + 1, keep_until=NOW + 300)
        assert list((await store.revocations_since(sequence))[1]) == ["token2"]

    # What permits oblige to

    async def test_a_rate_is_spent_by_all_callers_together_and_opens_again_after_its_time(
        self, store: Store
    ) -> None:
        limit = RateLimit(b"rule", 3, 60)
        waits = await asyncio.gather(*(store.spend([limit], now=NOW) for _ in range(20)))
        assert sorted(waits) == [0] * 3 + [60] * 17
        assert await store.spend([limit], now=NOW + 45) == 15
        assert await store.spend([RateLimit(b"other", 3, 60)], now=NOW + 45) == 0
        assert [await store.spend([limit], now=NOW + 60) for _ in range(4)] == [0, 0, 0, 60]

    async def test_of_several_rates_nothing_is_spent_when_one_is_used_up(self, store: Store) -> None:
        narrow, wide = RateLimit(b"narrow", 1, 60), RateLimit(b"wide", 2, 3600)
        assert await store.spend([narrow, wide], now=NOW) == 0
        assert await store.spend([narrow, wide], now=NOW) == 60
        assert await store.spend([wide], now=NOW) == 0  # the refused one had not counted
        assert await store.spend([wide], now=NOW) == 3600
        assert await store.spend([], now=NOW) == 0

    async def test_rates_go_when_their_time_is_over(self, store: Store) -> None:
        await store.spend([RateLimit(b"rule", 3, 60)], now=NOW)
        assert await store.remove_expired(now=NOW + 59, at_most=10) == 0
        assert await store.remove_expired(now=NOW + 60, at_most=10) == 1

    async def test_of_the_same_emergency_access_one_is_under_way_with_its_messages(
        self, store: Store
    ) -> None:
        numbers = iter(range(100))

        async def begin() -> bool:
            name = str(next(numbers))
            messages = [replace(NOTIFICATION, id=name)]
            return await store.begin_emergency(replace(EMERGENCY, id=name), messages, now=NOW)

        assert await winners(begin) == 1
        assert await store.waiting_notifications() == 1
        for other in (
            replace(EMERGENCY, id="a", patient="B"),
            replace(EMERGENCY, id="b", subject="dr2"),
            replace(EMERGENCY, id="c", client_id="other"),
            replace(EMERGENCY, id="d", issuer="https://other"),
            replace(EMERGENCY, id="e", rule="emergency/other"),
        ):
            assert await store.begin_emergency(other, [], now=NOW)
        mine = await store.emergencies_of(**WHOSE, now=NOW)
        assert sorted((each.rule, each.patient) for each in mine) == [
            ("emergency/glass", "A"),
            ("emergency/glass", "B"),
            ("emergency/other", "A"),
        ]

    async def test_emergency_access_ends_and_begins_anew_as_another(self, store: Store) -> None:
        assert await store.begin_emergency(EMERGENCY, [], now=NOW)
        assert list(await store.emergencies_of(**WHOSE, now=NOW + 3599)) == [EMERGENCY]
        assert list(await store.emergencies_of(**WHOSE, now=NOW + 3600)) == []
        again = replace(EMERGENCY, id="e2", started_at=NOW + 3600, ends_at=NOW + 7200)
        assert await store.begin_emergency(again, [], now=NOW + 3600)
        assert list(await store.emergencies(only_open=False, now=NOW)) == [again, EMERGENCY]
        assert await store.end_emergency("e2", now=NOW + 3700)
        assert not await store.end_emergency("e2", now=NOW + 3700)
        assert list(await store.emergencies_of(**WHOSE, now=NOW + 3700)) == []

    async def test_the_end_of_emergency_access_is_noted_once_and_its_row_stays_until_then(
        self, store: Store
    ) -> None:
        await store.begin_emergency(EMERGENCY, [], now=NOW)
        assert list(await store.ended_emergencies(now=NOW + 3599, at_most=10)) == []
        assert list(await store.ended_emergencies(now=NOW + 3600, at_most=10)) == [EMERGENCY]
        assert await store.remove_expired(now=NOW + 9000, at_most=10) == 0
        assert await winners(lambda: store.note_emergency_end("e1")) == 1
        assert list(await store.ended_emergencies(now=NOW + 3600, at_most=10)) == []
        assert await store.remove_expired(now=NOW + 9000, at_most=10) == 1

    async def test_emergency_access_is_listed_from_a_moment_on_the_newest_first(self, store: Store) -> None:
        for id, at in (("c", 2), ("a", 2), ("b", 3), ("d", 1)):
            began = replace(EMERGENCY, id=id, patient=id, started_at=NOW + at)
            assert await store.begin_emergency(began, [], now=NOW)

        async def listed(until: int | None, limit: int | None = None) -> list[str]:
            found = await store.emergencies(only_open=True, now=NOW, limit=limit, until=until)
            return [each.id for each in found]

        assert await listed(None) == ["b", "a", "c", "d"]
        assert await listed(None, 2) == ["b", "a"]
        assert await listed(NOW + 2) == ["a", "c", "d"]
        assert await listed(NOW + 2, 1) == ["a"]
        assert await listed(NOW) == []

    async def test_emergency_access_is_reviewed_once(self, store: Store) -> None:
        await store.begin_emergency(EMERGENCY, [], now=NOW)
        review = {"by": "ann", "review": "right", "now": NOW + 5}
        assert await winners(lambda: store.review_emergency("e1", **review)) == 1
        assert not await store.review_emergency("unknown", **review)
        assert list(await store.emergencies(only_open=True, now=NOW + 5)) == []
        (found,) = await store.emergencies(only_open=False, now=NOW + 5)
        assert (found.reviewed_at, found.reviewed_by, found.review) == (NOW + 5, "ann", "right")

    async def test_a_message_is_claimed_by_one_at_a_time_until_it_is_delivered(self, store: Store) -> None:
        await store.put_notifications(
            [NOTIFICATION, replace(NOTIFICATION, id="later", due_at=NOW + 100, attempts=8)]
        )
        claims = await asyncio.gather(
            *(store.claim_notifications(now=NOW, until=NOW + 30, at_most=10) for _ in range(10))
        )
        (claimed,) = [message for found in claims for message in found]
        assert claimed == replace(NOTIFICATION, due_at=NOW + 30, attempts=1)
        (again,) = await store.claim_notifications(now=NOW + 30, until=NOW + 60, at_most=10)
        assert again.attempts == 2
        await store.postpone_notification("n1", due_at=NOW + 50)
        assert list(await store.claim_notifications(now=NOW + 49, until=NOW + 90, at_most=10)) == []
        assert await store.delete_notification("n1")
        assert not await store.delete_notification("n1")
        assert await store.waiting_notifications() == 1

    async def test_a_message_is_due_when_the_clock_was_set_back_by_more_than_it_could_have_to_wait(
        self, store: Store
    ) -> None:
        never, once, often = (replace(NOTIFICATION, id=f"a{n}", due_at=NOW, attempts=n) for n in (0, 1, 12))
        await store.put_notifications([never, once, often])

        async def claimed(back: int) -> list[str]:
            found = await store.claim_notifications(now=NOW - back, until=NOW - back + 90, at_most=10)
            return sorted(each.id for each in found)

        assert await claimed(95) == []
        assert await claimed(96) == ["a0"]
        assert await claimed(101) == ["a1"]
        assert await claimed(3600 + 90) == [
            "a0",
            "a1",
        ]  # by the claim of a moment ago, which the clock left behind
        assert await claimed(3600 + 91) == ["a12"]
        assert await claimed(3600 + 91) == []

    async def test_a_message_that_is_too_old_is_taken_out_by_one(self, store: Store) -> None:
        await store.put_notifications([NOTIFICATION])
        assert list(await store.claim_notifications(now=NOW + 600, until=NOW + 700, at_most=10)) == []
        assert await winners(lambda: store.expire_notifications(at_most=10, now=NOW + 600)) == 1
        assert await store.waiting_notifications() == 0

    async def test_of_messages_that_are_too_old_so_many_are_taken_out_at_once(self, store: Store) -> None:
        await store.put_notifications([replace(NOTIFICATION, id=f"m{number}") for number in range(5)])
        taken = [await store.expire_notifications(now=NOW + 600, at_most=2) for _ in range(4)]
        assert [len(each) for each in taken] == [2, 2, 1, 0]
        assert len({each.id for some in taken for each in some}) == 5

    # Server keys and secrets

    async def test_a_kid_is_given_once(self, store: Store) -> None:
        assert await winners(lambda: store.put_key(KEY)) == 1
        assert not await store.put_key(replace(KEY, encrypted=b"other"))
        assert list(await store.keys()) == [KEY]
        await store.delete_key("key")
        assert list(await store.keys()) == []

    async def test_a_key_changes_state_only_from_the_state_that_was_seen(self, store: Store) -> None:
        await store.put_key(KEY)
        activate = {"from_state": "announced", "to_state": "active", "now": NOW}
        assert await winners(lambda: store.move_key("key", **activate)) == 1
        assert not await store.move_key("other", **activate)
        [key] = await store.keys()
        assert (key.kid, key.state) == ("key", "active")

    async def test_a_key_that_becomes_active_early_keeps_the_length_of_its_life(self, store: Store) -> None:
        await store.put_key(KEY)
        assert await store.move_key("key", from_state="announced", to_state="active", now=NOW + 30)
        assert list(await store.keys()) == [
            replace(
                KEY,
                state="active",
                activates_at=NOW + 30,
                retires_at=KEY.retires_at - 70,
                removes_at=KEY.removes_at - 70,
            )
        ]

    async def test_a_key_is_sealed_anew_only_over_what_was_seen(self, store: Store) -> None:
        await store.put_key(KEY)
        assert not await store.reseal_key("key", expected=b"another", encrypted=b"new")
        assert not await store.reseal_key("other", expected=KEY.encrypted, encrypted=b"new")
        assert await winners(lambda: store.reseal_key("key", expected=KEY.encrypted, encrypted=b"new")) == 1
        assert list(await store.keys()) == [replace(KEY, encrypted=b"new")]

    async def test_a_key_that_retires_late_is_removed_as_much_later(self, store: Store) -> None:
        await store.put_key(replace(KEY, state="active"))
        late = KEY.retires_at + 10 * 86400
        assert await store.move_key("key", from_state="active", to_state="retired", now=late)
        assert list(await store.keys()) == [
            replace(KEY, state="retired", retires_at=late, removes_at=late + KEY.removes_at - KEY.retires_at)
        ]

    async def test_everybody_gets_the_first_proposed_secret(self, store: Store) -> None:
        proposals = [bytes([number]) * 32 for number in range(20)]
        got = await asyncio.gather(*(store.secret("nonce", proposal) for proposal in proposals))
        assert len(set(got)) == 1
        assert got[0] in proposals
        assert await store.secret("other", b"\x00") == b"\x00"

    # Audit

    async def test_audit_lines_come_back_in_order_and_in_pages(self, store: Store) -> None:
        lines = audit_lines(1, 7)
        assert await store.last_audit() is None
        assert await store.audit_head() is None
        await store.append_audit(lines[:3])
        await store.append_audit([])
        await store.append_audit(lines[3:])
        assert await store.last_audit() == lines[6]
        assert await store.audit_head() == (7, lines[6].digest)
        assert list(await store.audit(after=0, limit=4)) == lines[:4]
        assert list(await store.audit(after=4, limit=100)) == lines[4:]
        assert list(await store.audit(after=7, limit=100)) == []
        texts = [(line.sequence, line.line) for line in lines]
        assert list(await store.audit_texts(chain="", after=0, limit=4)) == texts[:4]
        assert list(await store.audit_texts(chain="", after=4, limit=100)) == texts[4:]
        assert list(await store.audit_texts(chain="other", after=0, limit=4)) == []

    async def test_lines_that_do_not_follow_the_newest_are_refused_whole(self, store: Store) -> None:
        lines = audit_lines(1, 4)
        with pytest.raises(AuditConflict):
            await store.append_audit(lines[1:])  # would leave a gap at the beginning
        await store.append_audit(lines[:2])
        forked = audit_lines(3, 4, previous=b"elsewhere")
        for wrong in (lines[:2], lines[1:], lines[3:], forked):
            with pytest.raises(AuditConflict):
                await store.append_audit(wrong)
        assert await store.audit_head() == (2, lines[1].digest)
        await store.append_audit(lines[2:])
        assert list(await store.audit(after=0, limit=100)) == lines

    async def test_lines_are_linked_behind_whatever_is_the_newest(self, store: Store) -> None:
        seen: list[tuple[int, bytes] | None] = []

        def link(head: tuple[int, bytes] | None) -> list[AuditLine]:
            seen.append(head)
            sequence, digest = head or (0, b"start")
            return audit_lines(sequence + 1, sequence + 2, digest)

        await asyncio.gather(*(store.extend_audit(link) for _ in range(10)))
        lines = audit_lines(1, 20)
        assert list(await store.audit(after=0, limit=100)) == lines
        assert await store.audit_head() == (20, lines[-1].digest)
        assert seen == [None, *((number, lines[number - 1].digest) for number in range(2, 20, 2))]
        await store.append_audit(audit_lines(21, 21, lines[-1].digest))

    async def test_what_cannot_be_linked_leaves_the_log_as_it_was(self, store: Store) -> None:
        lines = audit_lines(1, 2)
        await store.append_audit(lines)

        def fails(head: tuple[int, bytes] | None) -> list[AuditLine]:
            raise StoreUnavailable("no")

        with pytest.raises(StoreUnavailable, match="no"):
            await store.extend_audit(fails)
        assert await store.audit_head() == (2, lines[1].digest)
        await store.append_audit(audit_lines(3, 3, lines[1].digest))

    async def test_chains_know_nothing_of_each_other(self, store: Store) -> None:
        assert list(await store.chains()) == []
        assert await store.audit_heads() == {}
        unnamed, named = audit_lines(1, 4), audit_lines(1, 3, b"node", "node-a")
        await store.append_audit(unnamed[:2])
        await store.append_audit(named[:1])
        await asyncio.gather(store.append_audit(unnamed[2:]), store.append_audit(named[1:]))
        assert list(await store.chains()) == ["", "node-a"]
        assert list(await store.audit(after=0, limit=9)) == unnamed
        assert list(await store.audit(chain="node-a", after=1, limit=9)) == named[1:]
        assert list(await store.audit(chain="node-b", after=0, limit=9)) == []
        assert await store.audit_heads() == {"": (4, unnamed[3].digest), "node-a": (3, named[2].digest)}
        assert await store.audit_head("node-a") == (3, named[2].digest)
        assert await store.last_audit("node-a") == named[2]
        assert await store.audit_head("node-b") is await store.last_audit("node-b") is None
        for wrong in (
            audit_lines(5, 5, unnamed[3].digest, "node-a"),
            named[2:],
            audit_lines(2, 2, b"", "new"),
        ):
            with pytest.raises(AuditConflict):
                await store.append_audit(wrong)

    async def test_each_chain_is_extended_behind_its_own_newest_line(self, store: Store) -> None:
        def link_for(chain: str) -> Callable[[tuple[int, bytes] | None], list[AuditLine]]:
            def link(head: tuple[int, bytes] | None) -> list[AuditLine]:
                sequence, digest = head or (0, chain.encode())
                return audit_lines(sequence + 1, sequence + 2, digest, chain)

            return link

        names = ["", "a", "b"]
        await asyncio.gather(*(store.extend_audit(link_for(name), chain=name) for name in names * 5))
        for name in names:
            assert list(await store.audit(chain=name, after=0, limit=99)) == audit_lines(
                1, 10, name.encode(), name
            )

    async def test_tree_heads_are_numbered_without_gaps_and_added_once(self, store: Store) -> None:
        assert await store.newest_tree_head() is None
        assert not await store.add_tree_head(replace(TREE_HEAD, number=2))
        heads = [replace(TREE_HEAD, number=number) for number in (1, 2, 3)]
        for head in heads:
            assert await winners(lambda head=head: store.add_tree_head(head), at_once=4) == 1  # type: ignore[misc]
        assert list(await store.tree_heads(after=0, limit=2)) == heads[:2]
        assert list(await store.tree_heads(after=2, limit=9)) == heads[2:]
        assert await store.newest_tree_head() == heads[2]

    async def test_only_lines_that_a_stub_stands_for_can_be_removed(self, store: Store) -> None:
        lines = audit_lines(1, 10, chain="node-a")
        await store.append_audit(lines)
        await store.append_audit(audit_lines(1, 10))
        assert await store.remove_stubbed(STUB, limit=99) == 0
        assert len(await store.audit(chain="node-a", after=0, limit=99)) == 10
        assert await store.add_stub(STUB)
        for first, last in ((3, 7), (1, 3), (7, 9), (1, 10), (4, 5)):
            assert not await store.add_stub(replace(STUB, first=first, last=last))
        assert await store.remove_stubbed(STUB, limit=2) == 2
        assert await store.remove_stubbed(STUB, limit=99) == 3
        assert await store.remove_stubbed(STUB, limit=99) == 0
        assert list(await store.audit(chain="node-a", after=0, limit=99)) == lines[:2] + lines[7:]
        assert len(await store.audit(after=0, limit=99)) == 10
        assert await store.add_stub(replace(STUB, first=1, last=2))
        assert [(each.first, each.last) for each in await store.stubs("node-a")] == [(1, 2), (3, 7)]
        assert list(await store.stubs("")) == []

    async def test_keys_of_the_audit_log_are_numbered_and_resealed(self, store: Store) -> None:
        assert await store.add_audit_key(AUDIT_KEY)
        assert not await store.add_audit_key(replace(AUDIT_KEY, kid="other"))
        second = replace(AUDIT_KEY, number=2, kid="audit-2")
        assert await store.add_audit_key(second)
        assert not await store.reseal_audit_key(1, expected=b"other", encrypted=b"new")
        assert await store.reseal_audit_key(1, expected=AUDIT_KEY.encrypted, encrypted=b"new")
        assert list(await store.audit_keys()) == [replace(AUDIT_KEY, encrypted=b"new"), second]

    async def test_the_place_of_a_feed_moves_from_where_it_was_and_from_nowhere_else(
        self, store: Store
    ) -> None:
        assert await store.audit_feed("repository") == {}
        assert not await store.move_audit_feed("repository", "", expected=3, to=4)
        assert await store.move_audit_feed("repository", "", expected=None, to=0)
        assert not await store.move_audit_feed("repository", "", expected=None, to=7)
        assert await store.move_audit_feed("repository", "", expected=0, to=5)
        assert not await store.move_audit_feed("repository", "", expected=0, to=6)
        assert await store.move_audit_feed("repository", "node-b", expected=None, to=2)
        assert await store.move_audit_feed("syslog", "", expected=None, to=1)
        assert await store.audit_feed("repository") == {"": 5, "node-b": 2}

    async def test_a_hold_ends_once_and_stays_in_the_list(self, store: Store) -> None:
        await store.put_hold(HOLD)
        assert await store.end_hold("hold", now=NOW + 5)
        assert not await store.end_hold("hold", now=NOW + 6)
        assert not await store.end_hold("other", now=NOW)
        assert list(await store.holds()) == [replace(HOLD, ended_at=NOW + 5)]

    # Housekeeping

    async def test_expired_rows_go_in_batches_from_every_table_and_live_ones_stay(self, store: Store) -> None:
        for number in range(3):
            await store.claim(Namespace.DPOP_PROOF, bytes([number]), until=NOW + 60, now=NOW)
        await store.count("a", window_seconds=1, now=NOW)
        await store.put_pushed_request(PUSHED)
        await store.put_pushed_request(replace(PUSHED, id="alive", expires_at=NOW + 7200))
        await store.put_interaction(INTERACTION)
        await store.put_session(SESSION)
        await store.put_grant(replace(GRANT, grant_id="alive"), expires_at=NOW + 7200)
        await store.put_refresh_token(replace(REFRESH, id="brief", grant_id="alive", expires_at=NOW + 60))
        await store.revoke_token("token", now=NOW, keep_until=NOW + 60)
        await store.put_pushed_request(replace(PUSHED, id="third"))
        await store.complete_authorization(
            request_id="third", interaction_id="", grant=GRANT, code=CODE, now=NOW
        )
        await store.append_audit(audit_lines(1, 3))
        await store.put_key(KEY)
        removed = []
        while batch := await store.remove_expired(now=NOW + 3600, at_most=4):
            removed.append(batch)
        # 3 claims, counter, pushed request, interaction, session, refresh token, revocation, code, grant
        assert max(removed) <= 4
        assert sum(removed) == 11
        assert await store.pushed_request("alive", now=NOW + 3600) is not None
        assert await store.grant("alive", now=NOW + 3600) is not None
        assert len(await store.audit(after=0, limit=100)) == 3
        assert len(await store.keys()) == 1

    async def test_a_grant_takes_its_used_code_with_it(self, store: Store) -> None:
        await store.put_pushed_request(PUSHED)
        assert await complete(store)
        await store.redeem_code("code", now=NOW)
        assert await store.remove_expired(now=NOW + 60, at_most=1000) == 1
        assert await store.redeem_code("code", now=NOW) is None

    # Client registrations

    async def test_a_registration_comes_back_as_it_was_put(self, store: Store) -> None:
        assert await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
        found = await store.registration("app", now=NOW)
        assert found == replace(REGISTRATION, sequence=found.sequence if found else -1)
        assert await store.registration_history("app") == [replace(CHANGE, sequence=found.sequence)]
        assert await store.registration("App", now=NOW) is None

    async def test_a_client_id_is_taken_once(self, store: Store) -> None:
        other = replace(REGISTRATION, metadata={})
        await store.put_initial_access_token(INITIAL)
        assert await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
        assert not await store.put_registration(other, CHANGE, spending="initial", now=NOW)
        assert len(await store.registration_history("app")) == 1
        assert await store.initial_access_token("initial", now=NOW) == INITIAL  # nothing was spent

    async def test_an_initial_access_token_is_good_for_its_uses_and_its_time(self, store: Store) -> None:
        await store.put_initial_access_token(INITIAL)
        assert await store.initial_access_tokens(now=NOW) == [INITIAL]
        ids = iter(f"app{number}" for number in range(20))

        async def register() -> bool:
            record = replace(REGISTRATION, client_id=next(ids))
            return await store.put_registration(record, CHANGE, spending="initial", now=NOW)

        assert await winners(register) == 2
        assert len((await store.registrations_since(0))[1]) == 2
        assert await store.initial_access_token("initial", now=NOW) is None

    async def test_an_initial_access_token_that_is_over_or_unknown_registers_nobody(
        self, store: Store
    ) -> None:
        await store.put_initial_access_token(INITIAL)
        for id, now in (("initial", NOW + 300), ("Initial", NOW), ("", NOW)):
            assert not await store.put_registration(REGISTRATION, CHANGE, spending=id, now=now)
        assert await store.registrations_since(0) == (0, [])
        assert await store.initial_access_token("initial", now=NOW + 300) is None
        assert await store.delete_initial_access_token("initial")
        assert not await store.delete_initial_access_token("initial")
        assert not await store.put_registration(REGISTRATION, CHANGE, spending="initial", now=NOW)

    async def test_of_several_changes_of_one_version_one_wins_and_one_is_in_the_history(
        self, store: Store
    ) -> None:
        await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
        following = replace(REGISTRATION, version=2, status=RegistrationStatus.APPROVED, expires_at=None)
        change = replace(CHANGE, what="approved", version=2)
        assert await winners(lambda: store.change_registration(following, change, from_version=1)) == 1
        assert [row.what for row in await store.registration_history("app")] == ["registered", "approved"]
        found = await store.registration("app", now=NOW + 10**9)
        assert found is not None
        assert (found.version, found.status) == (2, RegistrationStatus.APPROVED)

    async def test_a_change_of_nothing_changes_nothing(self, store: Store) -> None:
        late = replace(CHANGE, at=NOW + 600)
        assert not await store.change_registration(REGISTRATION, CHANGE, from_version=0)
        await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
        assert not await store.change_registration(replace(REGISTRATION, version=2), late, from_version=1)
        assert len(await store.registration_history("app")) == 1

    async def test_changes_are_told_once_in_their_order(self, store: Store) -> None:
        assert await store.registrations_since(0) == (0, [])
        for name in ("a", "b", "c"):
            record = replace(REGISTRATION, client_id=name)
            await store.put_registration(record, replace(CHANGE, client_id=name), spending=None, now=NOW)
        newest, first = await store.registrations_since(0)
        assert [registration.client_id for registration in first] == ["a", "b", "c"]
        assert await store.registrations_since(newest) == (newest, [])
        changed = replace(REGISTRATION, client_id="a", version=2)
        await store.change_registration(changed, replace(CHANGE, client_id="a"), from_version=1)
        later, second = await store.registrations_since(newest)
        assert [(r.client_id, r.sequence) for r in second] == [("a", later)]
        assert later > newest
        assert [r.client_id for r in (await store.registrations_since(0))[1]] == ["b", "c", "a"]

    async def test_registrations_go_when_they_expire_and_their_history_stays(self, store: Store) -> None:
        await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
        kept = replace(REGISTRATION, client_id="kept", expires_at=None)
        await store.put_registration(kept, replace(CHANGE, client_id="kept"), spending=None, now=NOW)
        await store.put_initial_access_token(INITIAL)
        newest, _ = await store.registrations_since(0)
        assert await store.registration("app", now=NOW + 599) is not None
        assert await store.registration("app", now=NOW + 600) is None
        assert await store.remove_expired(now=NOW + 600, at_most=100) == 2  # and the initial access token
        assert [r.client_id for r in (await store.registrations_since(0))[1]] == ["kept"]
        assert len(await store.registration_history("app")) == 1
        again = replace(REGISTRATION, client_id="new")
        await store.put_registration(again, CHANGE, spending=None, now=NOW)
        assert (await store.registrations_since(newest))[1][0].client_id == "new"  # no number is given twice

    async def test_ending_the_grants_of_a_client_ends_all_of_its_own_and_no_other(self, store: Store) -> None:
        for number in range(3):
            grant = replace(GRANT, grant_id=f"g{number}")
            await store.put_grant(grant, expires_at=NOW + 300)
            await store.put_refresh_token(replace(REFRESH, id=f"r{number}", grant_id=f"g{number}"))
        await store.put_grant(replace(GRANT, grant_id="other", client_id="lab"), expires_at=NOW + 300)
        await store.revoke_grant("g2", now=NOW, keep_until=NOW + 300)
        assert sorted(await store.end_grants("portal", now=NOW, keep_until=NOW + 300)) == ["g0", "g1"]
        assert await store.end_grants("portal", now=NOW, keep_until=NOW + 300) == []
        assert await store.grants(subject=None, client_id="portal", now=NOW) == []
        assert await store.refresh_token("r0", now=NOW) is None
        assert await store.grant("other", now=NOW) is not None
        assert set((await store.revocations_since(0))[1]) == {"g0", "g1", "g2"}

    async def test_a_store_that_answers_passes_its_check(self, store: Store) -> None:
        await store.check()

    async def test_a_closed_store_says_that_it_is_unavailable(self, store: Store) -> None:
        await store.put_grant(GRANT, expires_at=NOW + 300)
        await store.close()
        calls: list[Awaitable[object]] = [
            store.check(),
            store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW),
            store.grant("grant", now=NOW),
            store.put_grant(GRANT, expires_at=NOW),
            complete(store),
            store.revoke_grant("grant", now=NOW, keep_until=NOW + 60),
            store.append_audit(audit_lines(1, 1)),
            store.keys(),
            store.remove_expired(now=NOW, at_most=10),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await call
