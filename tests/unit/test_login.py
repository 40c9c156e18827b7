"""Sign-in: guessing, forged forms, cookies, sessions and what the pages show of what they are sent."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from argon2 import PasswordHasher

from authz.events import ConsentGiven, SignIn
from authz.login import accounts as accounts_module
from authz.login.accounts import Accounts, SignInOutcome, hash_password
from authz.settings import Account
from authz.storage.interactions import BrowserSession
from authz.storage.store import StoreUnavailable
from tests.support.authorization_server import (
    ANNA,
    ISSUER,
    NOW,
    PASSWORD,
    Person,
    Reply,
    World,
    answer_of,
    http_request,
    open_world,
)

FORM = ("content-type", "application/x-www-form-urlencoded")
DOCTOR = Account(
    username="doctor",
    subject="9f1b",
    password_hash=ANNA.password_hash,
    name="Dr. <Two>",
    claims={"fhirUser": "Practitioner/dr2", "roles": ["physician"]},
    patients=(("A", "Anna Own"), ("B", 'Bert "Stranger" <b>')),
)
OFFICER = Account(
    username="officer",
    subject="77aa",
    password_hash=ANNA.password_hash,
    name="Privacy officer",
    claims={"roles": ["privacy-officer"]},
)
ACCOUNTS = {account.username: account for account in (ANNA, DOCTOR, OFFICER)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await opened.reopen(accounts=ACCOUNTS)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[World]:
    """A server that takes two attempts a minute for a name from an address, ten from an address, forty for a name."""
    async with open_world(tmp_path) as opened:
        yield await opened.reopen(accounts=ACCOUNTS, sign_in_attempts_per_minute=2)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parameters of every hash that a password is held against, in order."""
    seen: list[str] = []
    lock = threading.Lock()
    verify = accounts_module._HASHER.verify

    class Counted:
        def verify(self, stored: str, password: str) -> bool:
            with lock:
                seen.append(stored.rsplit("$", 2)[0])
            return bool(verify(stored, password))

    monkeypatch.setattr(accounts_module, "_HASHER", Counted())
    return seen


async def sign_in_page(world: World, person: Person, **changes: str) -> Reply:
    """The sign-in form of a new request."""
    pushed = await world.app().push(**changes)
    page = await person.visit(f"/authorize?{query_of(pushed)}")
    assert 'name="password"' in page.text
    return page


def query_of(pushed: Reply) -> str:
    return urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})


def fields(page: Reply) -> dict[str, str]:
    """The hidden fields of the page's form."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    return {name: unescape(value) for name, value in found}


def words(page: Reply) -> str:
    """The page as it is for everybody: without the name that was typed, without handles and tokens."""
    return re.sub(r'(value|href)="[^"]*"', "", page.text)


async def post(
    world: World,
    person: Person,
    path: str,
    form: dict[str, str],
    *headers: tuple[str, str],
    peer: str = "192.0.2.7",
) -> Reply:
    """One form, redirects not followed."""
    cookies = [] if person.cookie is None else [("cookie", person.cookie)]
    request = http_request("POST", path, headers=[FORM, *cookies, *headers], body=urlencode(form).encode())
    return await world.send(replace(request, peer=peer))


async def attempt(world: World, username: str, password: str = "wrong", *, peer: str = "192.0.2.7") -> int:
    """The status of one attempt by a new browser at that address."""
    person = Person(world)
    form = fields(await sign_in_page(world, person)) | {"username": username, "password": password}
    return (await post(world, person, "/sign-in", form, peer=peer)).status


# Guessing


async def test_unknown_names_and_wrong_passwords_get_the_same_page(world: World) -> None:
    seen = set()
    for username in ("anna", "nobody", "", "ANNA"):
        person = Person(world)
        reply = await person.submit(await sign_in_page(world, person), username=username, password="wrong")
        seen.add((reply.status, words(reply), tuple(reply.answer.headers)))
        assert reply.header("set-cookie") is None
    assert len(seen) == 1
    assert "User name or password is not right." in reply.text


async def test_unknown_names_and_wrong_passwords_cost_one_hash_of_the_same_price(
    world: World, hashing: list[str]
) -> None:
    for username in ("anna", "nobody", "anna", "doctor", ""):
        assert await attempt(world, username) == 403
    assert len(hashing) == 5
    assert len(set(hashing)) == 1


async def test_hashes_that_cost_more_than_ours_do_not_betray_unknown_names(
    world: World, hashing: list[str]
) -> None:
    imported = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=2).hash(PASSWORD)
    people = {"anna": replace(ANNA, password_hash=imported)}
    there = await world.reopen(accounts=people)
    assert await attempt(there, "nobody") == await attempt(there, "anna") == 403
    assert len(hashing) == 2
    assert len(set(hashing)) == 1
    assert "m=32768,t=3,p=2" in hashing[0]
    assert await attempt(there, "anna", PASSWORD) == 303


async def test_the_password_of_a_decoy_opens_no_account(world: World) -> None:
    """Names that nobody has are held against somebody's hash: a match must still mean nothing."""
    assert await attempt(world, "nobody", PASSWORD) == 403
    assert await attempt(world, "nobody", "the password of nobody") == 403
    there = await world.reopen(accounts={})
    assert await attempt(there, "nobody", "the password of nobody") == 403
    desk = Accounts(ACCOUNTS, world.store, 1000)
    for password in (PASSWORD, "the password of nobody"):
        result = await desk.sign_in("nobody", password, peer="192.0.2.7", now=NOW)
        assert (result.outcome, result.account) == (SignInOutcome.REFUSED, None)


@pytest.mark.parametrize(
    "damaged", ["", "correct horse battery staple", "$argon2id$v=19$m=65536,t=3,p=4$x", "$2b$12$x"]
)
async def test_a_hash_that_cannot_be_read_opens_nothing(world: World, damaged: str) -> None:
    there = await world.reopen(accounts={"anna": replace(ANNA, password_hash=damaged)})
    assert await attempt(there, "anna", PASSWORD) == 403
    assert await attempt(there, "anna", damaged) == 403


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        (PASSWORD, 303),
        (PASSWORD + " ", 403),
        (PASSWORD.upper(), 403),
        (PASSWORD + "\x00", 400),
        ("", 403),
        ("x" * 60_000, 403),
    ],
    ids=["right", "trailing space", "capitals", "nul", "empty", "long"],
)
async def test_a_password_counts_whole_and_exactly(world: World, typed: str, status: int) -> None:
    assert await attempt(world, "anna", typed) == status


async def test_long_passwords_are_not_cut_off(world: World) -> None:
    long = "p" * 1024
    there = await world.reopen(accounts={"anna": replace(ANNA, password_hash=hash_password(long + "q"))})
    assert await attempt(there, "anna", long + "r") == 403
    assert await attempt(there, "anna", long) == 403
    assert await attempt(there, "anna", long + "q") == 303


async def test_a_space_around_the_name_is_no_matter(world: World) -> None:
    """Keyboards of telephones put one behind every word."""
    assert await attempt(world, " anna ", PASSWORD) == 303


async def test_a_name_from_an_address_has_so_many_attempts_a_minute(
    guarded: World, hashing: list[str]
) -> None:
    assert [await attempt(guarded, "anna") for _ in range(4)] == [403, 403, 429, 429]
    assert await attempt(guarded, "anna", PASSWORD) == 429
    assert len(hashing) == 2, "a limited attempt must cost no hash"
    guarded.clock.now += 60
    assert await attempt(guarded, "anna", PASSWORD) == 303


async def test_a_limited_attempt_says_when_to_come_back_and_nothing_of_the_account(guarded: World) -> None:
    pages = []
    for username in ("anna", "nobody"):
        person = Person(guarded)
        page = await sign_in_page(guarded, person)
        for _ in range(3):
            reply = await person.submit(page, username=username, password="wrong")
        assert (reply.status, reply.header("retry-after")) == (429, "60")
        pages.append(words(reply))
    assert pages[0] == pages[1]
    assert "Too many attempts. Wait a minute and try again." in pages[0]


async def test_another_address_is_not_held_for_what_one_did(guarded: World) -> None:
    for _ in range(45):
        await attempt(guarded, "anna", peer="198.51.100.1")
    assert await attempt(guarded, "anna", PASSWORD, peer="198.51.100.1") == 429
    assert await attempt(guarded, "anna", PASSWORD, peer="192.0.2.7") == 303


async def test_an_address_that_tries_many_names_is_limited(guarded: World) -> None:
    statuses = [await attempt(guarded, f"name-{number}") for number in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    assert await attempt(guarded, "anna", PASSWORD) == 429


async def test_a_name_that_is_tried_from_many_addresses_is_limited(guarded: World) -> None:
    statuses = [await attempt(guarded, "anna", peer=f"198.51.100.{number}") for number in range(42)]
    assert statuses == [403] * 40 + [429] * 2


async def test_one_IPv6_network_is_one_address(guarded: World) -> None:
    statuses = [await attempt(guarded, "anna", peer=f"2001:db8:1:2::{number:x}") for number in range(4)]
    assert statuses == [403, 403, 429, 429]
    assert await attempt(guarded, "anna", peer="2001:db8:1:3::1") == 403


async def test_IPv4_seen_over_IPv6_is_told_apart_and_is_the_same_as_over_IPv4(guarded: World) -> None:
    seen = [await attempt(guarded, "anna", peer=peer) for peer in ("::ffff:198.51.100.1", "198.51.100.1")]
    assert seen == [403, 403]
    assert await attempt(guarded, "anna", peer="198.51.100.1") == 429
    assert await attempt(guarded, "anna", peer="::ffff:198.51.100.2") == 403


async def test_a_ward_may_sign_in_from_one_address(guarded: World) -> None:
    assert [await attempt(guarded, "anna", PASSWORD) for _ in range(15)] == [303] * 15
    assert [await attempt(guarded, "anna") for _ in range(3)] == [403, 403, 429]


async def test_knowing_one_password_does_not_buy_guesses_at_another(guarded: World) -> None:
    statuses = []
    for _ in range(4):
        statuses.append(await attempt(guarded, "anna"))
        assert await attempt(guarded, "doctor", PASSWORD) == 303
    assert statuses == [403, 403, 429, 429]


async def test_limits_hold_on_every_node_and_over_a_restart(guarded: World) -> None:
    other = await guarded.reopen(sign_in_attempts_per_minute=2)
    seen = [await attempt(guarded, "anna"), await attempt(other, "anna"), await attempt(other, "anna")]
    assert seen == [403, 403, 429]


async def test_attempts_at_once_are_all_counted(guarded: World) -> None:
    seen = await asyncio.gather(*(attempt(guarded, "anna") for _ in range(8)))
    assert sorted(seen) == [403] * 2 + [429] * 6


async def test_too_many_at_once_wait_for_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Accounts(ACCOUNTS, world.store, 1000)
    monkeypatch.setattr(desk, "_waiting", accounts_module._MAX_WAITING)
    result = await desk.sign_in("anna", PASSWORD, peer="192.0.2.7", now=NOW)
    assert (result.outcome, result.account) == (SignInOutcome.LIMITED, None)


async def test_without_a_counter_nobody_signs_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person(world)
    form = fields(await sign_in_page(world, person)) | {"username": "anna", "password": PASSWORD}

    async def silent(*args: Any, **more: Any) -> int:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(world.store, "count", silent)
    reply = await post(world, person, "/sign-in", form)
    assert reply.status == 503
    assert reply.header("set-cookie") is None


async def test_every_attempt_is_recorded_without_the_name_that_was_typed(guarded: World) -> None:
    for password in ("wrong", PASSWORD):
        await attempt(guarded, "anna", password)
    await attempt(guarded, "typed my password here")
    await attempt(guarded, "anna")
    await attempt(guarded, "anna")
    seen = [event for event in guarded.events if isinstance(event, SignIn)]
    assert [(event.outcome, event.subject) for event in seen] == [
        ("refused", None), ("accepted", ANNA.subject), ("refused", None), ("refused", None), ("limited", None),
    ]  # fmt: skip
    assert {(event.client_id, event.peer) for event in seen} == {("portal", "192.0.2.7")}
    assert "typed my password" not in repr(guarded.events)


# Cookies and sessions


async def test_the_cookie_is_for_this_host_for_https_and_for_no_script(world: World) -> None:
    pushed = await world.app().push()
    reply = await world.get("/authorize", query=query_of(pushed))
    cookie = reply.header("set-cookie") or ""
    name, _, rest = cookie.partition("=")
    value, *attributes = rest.split("; ")
    assert name == "__Host-securus"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", value)
    # __Host- wants Secure, Path=/ and no Domain; without Max-Age it ends with the browser.
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]


async def test_signing_in_changes_the_cookie_and_ends_the_one_before(world: World) -> None:
    person = Person(world)
    page = await sign_in_page(world, person)
    before = person.cookie
    consent = await person.submit(page, username="anna", password=PASSWORD)
    assert 'id="allow"' in consent.text
    assert person.cookie not in (None, before)
    planted = Person(world)
    planted.cookie = before
    again = await planted.visit(f"/consent?interaction={fields(consent)['interaction']}")
    assert (again.status, 'id="error"' in again.text) == (400, True)


async def test_a_planted_cookie_that_the_server_never_gave_is_not_taken_over(world: World) -> None:
    person = Person(world)
    person.cookie = "__Host-securus=" + "p" * 43
    await sign_in_page(world, person)
    assert person.cookie != "__Host-securus=" + "p" * 43


@pytest.mark.parametrize("header", ["{own}; {other}", "{other}; {own}", "{own}; {own}"])
async def test_of_two_cookies_of_our_name_none_counts(world: World, header: str) -> None:
    person = Person(world)
    page = await sign_in_page(world, person)
    own = str(person.cookie)
    person.cookie = header.format(own=own, other="__Host-securus=" + "p" * 43)
    reply = await person.visit(f"/sign-in?interaction={fields(page)['interaction']}")
    assert reply.status == 400


async def test_other_cookies_beside_ours_do_no_harm(world: World) -> None:
    person = Person(world)
    page = await sign_in_page(world, person)
    person.cookie = f"a=b; x; __Host-securus2=1; {person.cookie}; =;;"
    assert (await person.visit(f"/sign-in?interaction={fields(page)['interaction']}")).status == 200


async def test_the_store_never_sees_the_cookie(world: World) -> None:
    kept: list[BrowserSession] = []
    put = world.store.put_session

    async def watched(record: BrowserSession) -> None:
        kept.append(record)
        await put(record)

    world.store.put_session = watched  # type: ignore[method-assign]
    person = Person(world)
    await sign_in_page(world, person)
    assert len(kept) == 1
    assert (person.cookie or "").partition("=")[2] not in repr(kept)


async def test_a_person_who_is_signed_in_is_not_asked_again_until_the_session_ends(world: World) -> None:
    person = Person(world)
    await person.sign_in(await world.app().push())
    assert 'id="allow"' in (await person.sign_in(await world.app().push())).text
    world.clock.now += 3600
    pushed = await world.app().push()
    page = await person.visit(f"/authorize?{query_of(pushed)}")
    assert 'name="password"' in page.text


@pytest.mark.parametrize("prompt", ["login", "select_account", "consent login"])
async def test_an_app_may_ask_for_a_new_sign_in(world: World, prompt: str) -> None:
    person = Person(world)
    await person.sign_in(await world.app().push())
    page = await sign_in_page(world, person, prompt=prompt)
    handle = fields(page)["interaction"]
    for path in ("/patient", "/consent"):
        assert (await person.visit(f"{path}?interaction={handle}")).status == 400
    assert 'id="allow"' in (await person.submit(page, username="anna", password=PASSWORD)).text


@pytest.mark.parametrize(
    ("max_age", "later", "is_asked"),
    [("100", 100, False), ("100", 101, True), ("0", 1, True)],
)
async def test_an_app_may_say_how_old_the_sign_in_may_be(
    world: World, max_age: str, later: int, is_asked: bool
) -> None:
    person = Person(world)
    await person.sign_in(await world.app().push())
    world.clock.now += later
    page = await person.visit(f"/authorize?{query_of(await world.app().push(max_age=max_age))}")
    assert ('name="password"' in page.text) is is_asked
    if is_asked:
        page = await person.submit(page, username="anna", password=PASSWORD)
    assert 'id="allow"' in page.text


async def test_an_account_that_was_taken_away_is_signed_in_no_more(world: World) -> None:
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    person.world = await world.reopen(accounts={"doctor": DOCTOR})
    assert (await person.consent(consent)).status == 400
    page = await person.visit(f"/authorize?{query_of(await world.app().push())}")
    assert 'name="password"' in page.text


async def test_the_pages_end_a_quarter_of_an_hour_after_they_began(world: World) -> None:
    person = Person(world)
    page = await sign_in_page(world, person)
    world.clock.now += 899
    consent = await person.submit(page, username="anna", password=PASSWORD)
    assert 'id="allow"' in consent.text
    world.clock.now += 1
    assert (await person.consent(consent)).status == 400


async def test_somebody_else_can_sign_in_and_the_first_person_is_out(world: World) -> None:
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    before = person.cookie
    page = await person.submit(consent, action="other")
    assert 'name="password"' in page.text
    assert person.cookie != before
    page = await person.submit(page, username="doctor", password=PASSWORD)
    assert "Whose record?" in page.text
    assert "Anna Own" in page.text


@pytest.mark.parametrize(
    ("account", "asked", "page"),
    [
        (ANNA, {}, "/consent"),
        (DOCTOR, {}, "/patient"),  # which of two records
        (OFFICER, {}, "/patient"),  # where it is said that there is none
        (ANNA, {"prompt": "login"}, "/sign-in"),
        (ANNA, {"max_age": "0"}, "/sign-in"),
    ],
)
async def test_who_is_signed_in_is_led_to_the_first_page_that_asks_something(
    world: World, account: Account, asked: dict[str, str], page: str
) -> None:
    person, app = Person(world, account), world.app()
    await person.sign_in(await app.push())
    pushed = await app.push(**asked)
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    led = await world.get("/authorize", query=query, headers=person._headers())
    assert (led.header("location") or "").startswith(f"{page}?interaction=")
    assert led.header("set-cookie") is None


# Forged forms


@pytest.mark.parametrize("path", ["/sign-in", "/patient", "/consent"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", f"{ISSUER}.evil.example", ISSUER.replace("https", "http")]
)
async def test_a_form_from_another_origin_is_refused(world: World, path: str, origin: str) -> None:
    person = Person(world, DOCTOR)
    page = await person.sign_in(await world.app().push())
    if path == "/sign-in":
        page = await sign_in_page(world, person := Person(world))
    elif path == "/consent":
        page = await person.submit(page, patient="A")
    form = fields(page) | {
        "username": "anna",
        "password": PASSWORD,
        "patient": "A",
        "action": "allow",
        "scope": "fhirUser",
    }
    refused = await post(world, person, path, form, ("origin", origin))
    assert refused.status == 403
    assert "did not come from this site" in refused.text
    assert (await post(world, person, path, form, ("origin", ISSUER))).status == 303


@pytest.mark.parametrize("path", ["/sign-in", "/patient", "/consent"])
async def test_a_form_without_the_token_of_this_session_and_interaction_is_refused(
    world: World, path: str
) -> None:
    async def reach(person: Person) -> Reply:
        pushed = await world.app().push()
        if path == "/sign-in":
            return await person.visit(f"/authorize?{query_of(pushed)}")
        page = await person.sign_in(pushed)
        return page if path == "/patient" else await person.submit(page, patient="A")

    person, other = Person(world, DOCTOR), Person(world, DOCTOR)
    first, foreign = fields(await reach(person)), fields(await reach(other))["form_token"]
    form = first | {
        "username": "doctor",
        "password": PASSWORD,
        "patient": "A",
        "action": "allow",
        "scope": "fhirUser",
    }
    second = fields(await reach(person))["form_token"] if path != "/sign-in" else "x"
    for token in (None, "", foreign, second, first["form_token"][:-1], first["form_token"] + "A", "é"):
        sent = {name: value for name, value in form.items() if name != "form_token"}
        if token is not None:
            sent["form_token"] = token
        reply = await post(world, person, path, sent)
        assert reply.status == 403, token
        assert "form has expired" in reply.text
    assert (await post(world, person, path, form)).status == 303


@pytest.mark.parametrize("path", ["/sign-in", "/patient", "/consent"])
async def test_the_form_of_another_browser_is_not_taken(world: World, path: str) -> None:
    """Handle and form token together are worth nothing without the cookie that they were made for."""
    person = Person(world, DOCTOR)
    page = await person.sign_in(await world.app().push())
    if path == "/sign-in":
        page = await sign_in_page(world, person := Person(world))
    elif path == "/consent":
        page = await person.submit(page, patient="A")
    form = fields(page) | {
        "username": "anna",
        "password": PASSWORD,
        "patient": "A",
        "action": "allow",
        "scope": "fhirUser",
    }
    thief = Person(world)
    assert (await post(world, thief, path, form)).status == 400
    await sign_in_page(world, thief)
    assert (await post(world, thief, path, form)).status == 400


async def test_nothing_is_done_by_looking(world: World) -> None:
    """A link or picture cannot allow, choose or sign in: GET of these pages changes nothing that was decided."""
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    more = fields(consent) | {"action": "allow", "scope": "fhirUser"}
    for path in ("/consent", "/sign-in", "/patient"):
        reply = await person.visit(f"{path}?{urlencode(more)}")
        assert 'id="allow"' in reply.text
    assert not [event for event in world.events if isinstance(event, ConsentGiven)]
    assert answer_of(await person.consent(consent))["code"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/authorize", "/sign-in", "/patient", "/consent"])
async def test_other_methods_are_405(world: World, path: str, method: str) -> None:
    assert (await world.send(http_request(method, path))).status == 405


@pytest.mark.parametrize(
    "body", [b"interaction=a&interaction=b", b"interaction=%zz", b"interaction=%ff", b"\xff", b"{}"]
)
async def test_a_form_that_has_no_single_reading_is_refused_with_a_page(world: World, body: bytes) -> None:
    for path in ("/sign-in", "/patient", "/consent"):
        reply = await world.send(http_request("POST", path, headers=[FORM], body=body))
        assert (reply.status, 'id="error"' in reply.text) == (400, True)


async def test_a_form_that_is_too_long_is_413(world: World) -> None:
    reply = await world.send(http_request("POST", "/sign-in", headers=[FORM], body=b"a=" + b"b" * 70_000))
    assert (reply.status, 'id="error"' in reply.text) == (413, True)


# What the pages show


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&quot;{{7654321*7654321}}\u202e"


async def test_a_name_that_was_typed_is_shown_as_text(world: World) -> None:
    person = Person(world)
    reply = await person.submit(await sign_in_page(world, person), username=HOSTILE, password=HOSTILE)
    assert reply.status == 403
    assert "<script" not in reply.text
    assert "<img" not in reply.text
    assert str(7654321**2) not in reply.text
    typed = re.search(r'name="username"[^>]*value="([^"]*)"', reply.text)
    assert typed
    assert unescape(typed[1]) == HOSTILE


async def test_a_password_is_never_shown_again(world: World) -> None:
    person = Person(world)
    reply = await person.submit(await sign_in_page(world, person), username="anna", password="hunter2-secret")
    assert "hunter2-secret" not in reply.text


async def test_names_of_people_apps_and_records_are_shown_as_text(world: World) -> None:
    hostile = replace(
        world.clients["portal"],
        name=f"App {HOSTILE}",
        contact=HOSTILE,
        policy_url='https://app.example/?a=1&b="',
    )
    there = await world.reopen(
        clients=world.clients | {"portal": hostile},
        accounts={"doctor": replace(DOCTOR, name=HOSTILE)},
        organisation=HOSTILE,
    )
    person = Person(there, DOCTOR)
    pages = [await sign_in_page(there, person)]
    pages.append(await person.submit(pages[0], username="doctor", password=PASSWORD))
    pages.append(await person.submit(pages[1], patient="B"))
    pages.append(await person.visit("/authorize"))
    for page, id in zip(pages, ("login", "select", "allow", "error"), strict=True):
        assert f'id="{id}"' in page.text
        assert "<script" not in page.text
        assert "<img" not in page.text
        names_the_record = id in ("select", "allow")
        assert ("Bert &#34;Stranger&#34; &lt;b&gt;" in page.text) is names_the_record
        assert ("Stranger" in page.text) is names_the_record


@pytest.mark.parametrize("value", ['"><script>', "' onload=x", "\u0130", "%00", "a" * 4000])
async def test_the_handle_in_the_address_is_not_reflected(world: World, value: str) -> None:
    for path in ("/sign-in", "/patient", "/consent"):
        reply = await Person(world).visit(f"{path}?{urlencode({'interaction': value})}")
        assert reply.status == 400
        assert value not in reply.text


async def test_browsers_name_their_origin_with_our_own_forms(world: World) -> None:
    """Under no-referrer they send `Origin: null` instead (Fetch 3.2), which is what a forged form sends too."""
    page = await sign_in_page(world, Person(world))
    assert page.header("referrer-policy") == "same-origin"


async def test_no_page_runs_a_script_is_framed_or_is_kept(world: World) -> None:
    person = Person(world, DOCTOR)
    pages = [await sign_in_page(world, person)]
    pages.append(await person.submit(pages[0], username="doctor", password="wrong"))
    pages.append(await person.submit(pages[0], username="doctor", password=PASSWORD))
    pages.append(await person.submit(pages[2], patient="A"))
    pages.append(await person.visit("/authorize"))
    for page in pages:
        policy = dict(
            part.split(" ", 1) for part in (page.header("content-security-policy") or "").split("; ")
        )
        form_action = policy.pop("form-action")
        assert policy == {
            "default-src": "'none'", "style-src": "'self'", "img-src": "'self'", "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }  # fmt: skip
        assert form_action.split()[0] == "'self'"
        assert page.header("x-frame-options") == "DENY"
        assert page.header("cache-control") == "no-store"
        assert page.header("x-content-type-options") == "nosniff"
        assert page.header("content-type") == "text/html; charset=utf-8"
        assert (page.header("strict-transport-security") or "").startswith("max-age=31536000")
        assert page.header("access-control-allow-origin") is None
        assert "style=" not in page.text
        assert "<script" not in page.text
        assert not re.search(r"\son[a-z]+=", page.text)


async def test_the_hospitals_privacy_statement_is_on_every_page(world: World) -> None:
    there = await world.reopen(privacy_url="https://hospital.example/privacy")
    for page in (await sign_in_page(there, Person(there)), await Person(there).visit("/authorize")):
        assert 'href="https://hospital.example/privacy"' in page.text
    assert "privacy" not in (await Person(world).visit("/authorize")).text.lower()


@pytest.mark.parametrize(
    ("redirect_uri", "allowed"),
    [
        ("https://app.example/cb?x=1", "'self' https:"),
        ("http://127.0.0.1:4000/cb", "'self' http://127.0.0.1:4000 https:"),
        ("http://[::1]:4000/cb", "'self' http: https:"),
        ("com.example.app:/cb", "'self' com.example.app:"),
    ],
)
async def test_forms_may_lead_to_the_app_and_on_to_wherever_the_app_leads(
    world: World, redirect_uri: str, allowed: str
) -> None:
    """Chromium holds every redirect behind a form against form-action, the app's own ones too."""
    there = await world.reopen(
        clients=world.clients | {"portal": replace(world.clients["portal"], redirect_uris=(redirect_uri,))}
    )
    page = await sign_in_page(there, Person(there), redirect_uri=redirect_uri)
    assert (page.header("content-security-policy") or "").endswith(f"form-action {allowed}")


async def test_an_error_page_lets_no_form_go_anywhere_else(world: World) -> None:
    page = await Person(world).visit("/authorize")
    assert (page.header("content-security-policy") or "").endswith("form-action 'self'")


async def test_the_style_sheet_is_served_and_may_be_kept(world: World) -> None:
    reply = await world.get("/assets/securus.css")
    assert (reply.status, reply.header("content-type")) == (200, "text/css; charset=utf-8")
    assert reply.header("x-content-type-options") == "nosniff"
    assert "no-store" not in (reply.header("cache-control") or "")


# People, records and refusals


async def test_the_person_may_not_sign_in_at_all(world: World) -> None:
    person = Person(world)
    page = await sign_in_page(world, person)
    answer = answer_of(await person.submit(page, action="cancel"))
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "s-1", ISSUER)
    assert not [event for event in world.events if isinstance(event, SignIn)]
    assert (await person.submit(page, username="anna", password=PASSWORD)).status == 400


async def test_the_person_may_choose_no_patient(world: World) -> None:
    person = Person(world, DOCTOR)
    answer = answer_of(await person.submit(await person.sign_in(await world.app().push()), action="cancel"))
    assert answer["error"] == "access_denied"


async def test_a_refusal_is_recorded_and_gives_nothing(world: World) -> None:
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    answer = answer_of(await person.consent(consent, "deny"))
    assert set(answer) == {"error", "error_description", "state", "iss"}
    assert [e for e in world.events if isinstance(e, ConsentGiven)] == [
        ConsentGiven("denied", ANNA.subject, "portal", (), None)
    ]
    assert (await person.consent(consent)).status == 400


@pytest.mark.parametrize("action", ["deny", "", "Allow", "ALLOW", "allow ", "yes", None])
async def test_only_allow_allows(world: World, action: str | None) -> None:
    person = Person(world)
    form = fields(await person.sign_in(await world.app().push())) | {"scope": "fhirUser"}
    if action is not None:
        form["action"] = action
    assert answer_of(await post(world, person, "/consent", form))["error"] == "access_denied"


async def test_an_account_without_a_record_is_access_denied_where_one_is_needed(world: World) -> None:
    person = Person(world, OFFICER)
    answer = answer_of(await person.sign_in(await world.app().push()))
    assert answer["error"] == "access_denied"
    assert "no patient record" in answer["error_description"]


async def test_an_account_without_a_record_may_allow_what_needs_none(world: World) -> None:
    app, person = world.app(), Person(world, OFFICER)
    consent = await person.sign_in(await app.push(scope="fhirUser user/Observation.rs"))
    tokens = await app.redeem(answer_of(await person.consent(consent))["code"])
    assert tokens.status == 200
    assert "patient" not in tokens.json


@pytest.mark.parametrize("chosen", ["C", "", "A,B", "a", "Patient/A", "A\x00", None])
async def test_only_a_record_that_was_offered_can_be_chosen(world: World, chosen: str | None) -> None:
    person = Person(world, DOCTOR)
    page = await person.sign_in(await world.app().push())
    reply = await person.submit(page, **({} if chosen is None else {"patient": chosen}))
    assert (reply.status, 'id="error"' in reply.text) == (400, True)
    assert 'id="select"' in (await person.visit(f"/consent?interaction={fields(page)['interaction']}")).text


async def test_a_patient_cannot_choose_a_record_of_somebody_else(world: World) -> None:
    """No choice was offered, so the form token comes from the consent page of the same interaction."""
    app, person = world.app(), Person(world)
    consent = await person.sign_in(await app.push())
    reply = await post(world, person, "/patient", fields(consent) | {"patient": "B"})
    assert reply.status == 400
    tokens = await app.redeem(answer_of(await person.consent(consent))["code"])
    assert tokens.json["patient"] == "A"


async def test_the_chosen_record_is_the_one_in_the_token(world: World) -> None:
    app, person = world.app(), Person(world, DOCTOR)
    consent = await person.submit(await person.sign_in(await app.push()), patient="B")
    assert "Bert &#34;Stranger&#34; &lt;b&gt;" in consent.text
    tokens = await app.redeem(answer_of(await person.consent(consent))["code"])
    assert tokens.json["patient"] == "B"


async def test_a_record_that_was_taken_away_after_it_was_chosen_is_not_given(world: World) -> None:
    person = Person(world, DOCTOR)
    consent = await person.submit(await person.sign_in(await world.app().push()), patient="B")
    person.world = await world.reopen(accounts={"doctor": replace(DOCTOR, patients=DOCTOR.patients[:1])})
    assert (await person.consent(consent)).status == 400


async def test_consent_cannot_be_given_before_sign_in_or_before_the_choice(world: World) -> None:
    person = Person(world, DOCTOR)
    page = await sign_in_page(world, person)
    form = fields(page) | {"action": "allow", "scope": "patient/*.rs"}
    assert (await post(world, person, "/consent", form)).status == 400
    chosen = await person.submit(page, username="doctor", password=PASSWORD)
    form = fields(chosen) | {"action": "allow", "scope": "patient/*.rs"}
    assert (await post(world, person, "/consent", form)).status == 400
    assert not [event for event in world.events if isinstance(event, ConsentGiven)]


async def test_only_what_was_asked_for_and_ticked_is_granted(world: World) -> None:
    app, person = world.app(), Person(world)
    consent = await person.sign_in(await app.push())
    form = [*fields(consent).items(), ("action", "allow")]
    form += [
        ("scope", "patient/*.rs"),
        ("scope", "patient/*.cruds"),
        ("scope", "system/*.rs"),
        ("scope", "openid"),
    ]
    request = http_request(
        "POST", "/consent", headers=[FORM, ("cookie", str(person.cookie))], body=urlencode(form).encode()
    )
    tokens = await app.redeem(answer_of(await world.send(request))["code"])
    assert tokens.json["scope"] == "patient/*.rs"
    assert "refresh_token" not in tokens.json


async def test_two_contexts_are_asked_for_and_each_person_gets_the_own_one(world: World) -> None:
    asked = "launch/patient patient/*.rs user/Observation.rs fhirUser"
    app = world.app()
    for account, kept, left_out in (
        (ANNA, "patient/*.rs", "user/"),
        (DOCTOR, "user/Observation.rs", "patient"),
    ):
        person = Person(world, account)
        consent = await person.sign_in(await app.push(scope=asked))
        tokens = await app.redeem(answer_of(await person.consent(consent))["code"])
        assert kept in tokens.json["scope"]
        assert left_out not in tokens.json["scope"]
