"""Authorization endpoint: rows P7 to P10, P13, P15, A1, A2, A5, T2 to T5 of the FAPI 2.0 checklist, against attackers.

What goes right, and the plain refusals, stand in test_authorization_response.py.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from authz.events import ConsentGiven, PageRefused
from authz.settings import Lifetimes
from authz.storage.grants import AuthorizationCode
from gateway.log_lines import JsonLines
from gateway.telemetry import Metrics
from tests.support.authorization_server import (
    ANNA,
    ISSUER,
    NOW,
    PASSWORD,
    REDIRECT_URI,
    Person,
    Reply,
    World,
    answer_of,
    challenge,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, b64

PREFIX = "urn:ietf:params:oauth:request_uri:"
BERT = replace(ANNA, username="bert", subject="b-2", name="Bert Other", patient="B")
STAFF = replace(
    ANNA, username="staff", subject="s-3", name="Staff", patient=None, patients=(("A", "Anna"), ("B", "Bert"))
)
CLERK = replace(STAFF, username="clerk", subject="c-4", name="Clerk", patients=())
ACCOUNTS = {account.username: account for account in (ANNA, BERT, STAFF, CLERK)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await opened.reopen(accounts=ACCOUNTS)


def address(pushed: Reply, client_id: str = "portal", **more: str) -> str:
    """The authorization URL of a pushed request."""
    query = {"client_id": client_id, "request_uri": pushed.json["request_uri"]} | more
    return f"/authorize?{urlencode(query)}"


def is_error_page(reply: Reply) -> bool:
    """A page for the person: nothing is sent to anybody, and it is kept nowhere."""
    shown = 'id="error"' in reply.text and 'id="error-description"' in reply.text
    if shown:
        assert reply.status == 400
        assert reply.header("location") is None
        assert reply.header("cache-control") == "no-store"
        assert reply.header("content-type") == "text/html; charset=utf-8"
    return shown


def watch(world: World) -> list[Reply]:
    """Every answer from now on."""
    seen: list[Reply] = []
    handle = world.server.handle

    async def watched(request: Any) -> Any:
        answer = await handle(request)
        assert answer is not None
        seen.append(Reply(answer))
        return answer

    world.server.handle = watched  # type: ignore[method-assign]
    return seen


Way = Callable[[World, Person, Reply], Awaitable[Reply]]


async def allows(world: World, person: Person, pushed: Reply) -> Reply:
    return await person.consent(await person.sign_in(pushed))


async def denies(world: World, person: Person, pushed: Reply) -> Reply:
    return await person.consent(await person.sign_in(pushed), "deny")


async def does_not_sign_in(world: World, person: Person, pushed: Reply) -> Reply:
    return await person.submit(await person.visit(address(pushed)), action="cancel")


async def chooses_nobody(world: World, person: Person, pushed: Reply) -> Reply:
    person.account = STAFF
    return await person.submit(await person.sign_in(pushed), action="cancel")


async def has_no_record(world: World, person: Person, pushed: Reply) -> Reply:
    person.account = CLERK
    return await person.sign_in(pushed)


REFUSALS: tuple[Way, ...] = (denies, does_not_sign_in, chooses_nobody, has_no_record)
WAYS: tuple[Way, ...] = (allows, *REFUSALS)
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
refusals = pytest.mark.parametrize("way", REFUSALS, ids=lambda way: way.__name__)


# P7: the request_uri is the client's


async def test_P7_the_log_says_why_a_page_was_refused_and_nothing_of_what_was_sent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "securus.pages")
    pushed = await world.app().push()
    assert is_error_page(await Person(world).visit(address(pushed, "portal-2")))
    (said,) = [record for record in caplog.records if record.name == "securus.pages"]
    line = json.loads(JsonLines().format(said))
    assert line["message"] == "a page was refused"
    assert (line["cause"], line["status"], line["endpoint"]) == (
        "error.request_uri_unknown",
        400,
        "/authorize",
    )
    assert pushed.json["request_uri"].rpartition(":")[2] not in json.dumps(line)
    assert "portal-2" not in json.dumps(line)


async def test_P7_a_page_that_refused_somebody_is_counted_by_names_of_ours(world: World) -> None:
    pushed = await world.app().push()
    assert is_error_page(await Person(world).visit(address(pushed, "portal-2")))
    assert is_error_page(await Person(world).visit("/consent?interaction=nonsense"))
    assert is_error_page(await Person(world).visit("/logout?post_logout_redirect_uri=https://evil.example"))
    refused = [event for event in world.events if isinstance(event, PageRefused)]
    assert refused == [
        PageRefused("/authorize", "error.request_uri_unknown"),
        PageRefused("/consent", "error.gone"),
        PageRefused("/logout", "error.logout_address"),
    ]
    metrics = Metrics()
    for event in (
        *refused,
        PageRefused("/elsewhere/evil", "error.gone"),
        PageRefused("/account/x", "error.gone"),
    ):
        metrics.event(event)
    counted = {
        line for line in metrics.text().decode().splitlines() if line.startswith("securus_pages_refused_t")
    }
    assert counted == {
        'securus_pages_refused_total{cause="error.request_uri_unknown",page="authorize"} 1.0',
        'securus_pages_refused_total{cause="error.gone",page="consent"} 1.0',
        'securus_pages_refused_total{cause="error.logout_address",page="logout"} 1.0',
        'securus_pages_refused_total{cause="error.gone",page="other"} 1.0',
        'securus_pages_refused_total{cause="error.gone",page="account"} 1.0',
    }


@pytest.mark.parametrize("named", ["portal-2", "portal-mtls", "lab", "unknown", "PORTAL", "portal ", ""])
async def test_P7_a_request_uri_with_another_client_id_is_refused_with_a_page(
    world: World, named: str
) -> None:
    pushed = await world.app().push()
    assert is_error_page(await Person(world).visit(address(pushed, named)))
    assert not is_error_page(await Person(world).visit(address(pushed)))


async def test_P7_one_clients_request_never_leads_to_another_one(world: World) -> None:
    """Requests of two clients in one browser: each answer goes where its own client asked for."""
    theirs = replace(world.clients["portal-2"], redirect_uris=("https://second.example/cb",))
    there = await world.reopen(clients=world.clients | {"portal-2": theirs})
    person = Person(there)
    first = await person.sign_in(await there.app().push())
    second = await person.sign_in(
        await there.app("portal-2").push(redirect_uri="https://second.example/cb", state="2"), "portal-2"
    )
    answers = [await person.consent(page) for page in (second, first)]
    places = [urlsplit(reply.header("location") or "").netloc for reply in answers]
    assert places == ["second.example", "portal.example"]
    assert [answer_of(reply)["state"] for reply in answers] == ["2", "s-1"]
    code = answer_of(answers[0])["code"]
    assert (await there.app().redeem(code)).refusal == (400, "invalid_grant")


async def test_P7_a_client_that_was_taken_out_gets_no_answer(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    consent = await person.sign_in(pushed)
    person.world = await world.reopen(clients={n: c for n, c in world.clients.items() if n != "portal"})
    assert is_error_page(await person.consent(consent))
    assert is_error_page(await person.visit(address(pushed)))


# P8: used once


async def test_P8_two_browsers_may_open_one_request_uri_and_one_completes_it(world: World) -> None:
    pushed = await world.app().push()
    anna, bert = Person(world, ANNA), Person(world, BERT)
    pages = [await anna.sign_in(pushed), await bert.sign_in(pushed)]
    assert "Anna Own" in pages[0].text
    assert "Bert Other" in pages[1].text
    code = answer_of(await bert.consent(pages[1]))["code"]
    assert is_error_page(await anna.consent(pages[0]))
    tokens = await world.app().redeem(code)
    assert tokens.json["patient"] == "B"


async def test_P8_of_many_consents_at_once_one_gives_a_code(world: World) -> None:
    pushed = await world.app().push()
    people = [Person(world) for _ in range(6)]
    pages = [await person.sign_in(pushed) for person in people]
    node = await world.reopen(accounts=ACCOUNTS)
    for person in people[::2]:
        person.world = node
    replies = await asyncio.gather(*(p.consent(page) for p, page in zip(people, pages, strict=True)))
    assert sorted(reply.status for reply in replies) == [303] + [400] * 5
    assert len([event for event in world.events if isinstance(event, ConsentGiven)]) == 1


async def test_P8_so_many_visits_of_one_pushed_request_are_kept_and_no_more(world: World) -> None:
    """Its address is seen in browsers: whoever has it must not fill the store."""
    pushed = await world.app().push()
    seen = [await world.get("/authorize", query=urlsplit(address(pushed)).query) for _ in range(31)]
    assert [reply.status for reply in seen[:30]] == [303] * 30
    assert seen[30].status == 429
    assert 'id="error"' in seen[30].text
    assert (await allows(world, Person(world), await world.app().push())).status == 303


async def test_P8_sending_the_consent_twice_gives_one_code(world: World) -> None:
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    first, second = await asyncio.gather(person.consent(consent), person.consent(consent))
    assert sorted((first.status, second.status)) == [303, 400]


@pytest.mark.parametrize("actions", [("allow", "allow"), ("allow", "deny"), ("deny", "deny")], ids="-".join)
async def test_P8_of_two_answers_that_reach_the_store_at_the_same_moment_one_counts(
    world: World, actions: tuple[str, str]
) -> None:
    pushed = await world.app().push()
    people = [Person(world), Person(world, BERT)]
    pages = [await person.sign_in(pushed) for person in people]
    both = asyncio.Barrier(2)
    complete, refuse = world.store.complete_authorization, world.store.refuse_authorization

    async def complete_together(**asked: Any) -> bool:
        await both.wait()
        return await complete(**asked)

    async def refuse_together(**asked: Any) -> bool:
        await both.wait()
        return await refuse(**asked)

    world.store.complete_authorization = complete_together  # type: ignore[method-assign]
    world.store.refuse_authorization = refuse_together  # type: ignore[method-assign]
    answers = zip(people, pages, actions, strict=True)
    replies = await asyncio.gather(*(person.consent(page, action) for person, page, action in answers))
    assert sorted(reply.status for reply in replies) == [303, 400]
    assert sum(is_error_page(reply) for reply in replies) == 1


@refusals
async def test_P8_a_refusal_uses_the_request_up_in_every_browser(world: World, way: Way) -> None:
    pushed = await world.app().push()
    other = Person(world, BERT)
    consent = await other.sign_in(pushed)
    assert answer_of(await way(world, Person(world), pushed))["error"] == "access_denied"
    assert is_error_page(await other.consent(consent))
    assert is_error_page(await Person(world).visit(address(pushed)))


async def test_P8_a_person_at_the_pages_may_take_longer_than_the_request_uri_lives(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    page = await person.visit(address(pushed))
    world.clock.now += 600
    consent = await person.submit(page, username="anna", password=PASSWORD)
    world.clock.now += 299
    assert answer_of(await person.consent(consent))["code"]


async def test_P8_what_a_person_holds_open_no_one_else_can_begin_after_expiry(world: World) -> None:
    pushed = await world.app().push()
    await Person(world).visit(address(pushed))
    world.clock.now += 60
    thief = Person(world, BERT)
    assert is_error_page(await thief.visit(address(pushed)))
    assert thief.cookie is None


async def test_P8_the_request_uri_lives_as_long_as_was_said(world: World) -> None:
    for seconds in (5, 599):
        lifetimes = Lifetimes(pushed_request=seconds)
        there = await world.reopen(lifetimes=lifetimes)
        pushed = await there.app().push()
        assert pushed.json["expires_in"] == seconds
        there.clock.now += seconds - 1
        assert not is_error_page(await Person(there).visit(address(pushed)))
        there.clock.now += 1
        assert is_error_page(await Person(there).visit(address(pushed)))


@pytest.mark.parametrize(
    "change", [str.lower, str.upper, lambda s: s + "A", lambda s: s[:-1], lambda s: s + "%00"]
)
async def test_P8_a_request_uri_that_is_nearly_right_is_unknown(
    world: World, change: Callable[[str], str]
) -> None:
    pushed = await world.app().push()
    handle = pushed.json["request_uri"].removeprefix(PREFIX)
    assert change(handle) != handle
    query = urlencode({"client_id": "portal", "request_uri": PREFIX + change(handle)})
    assert is_error_page(await Person(world).visit(f"/authorize?{query}"))


async def test_P8_a_handle_of_the_pages_is_no_request_uri_and_the_other_way_round(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    page = await person.visit(address(pushed))
    found = re.search(r'name="interaction" value="([^"]+)"', page.text)
    assert found
    query = urlencode({"client_id": "portal", "request_uri": PREFIX + found[1]})
    assert is_error_page(await person.visit(f"/authorize?{query}"))
    handle = pushed.json["request_uri"].removeprefix(PREFIX)
    for path in ("/sign-in", "/patient", "/consent"):
        assert is_error_page(await person.visit(f"{path}?interaction={handle}"))


# P9, P10: what is read


@pytest.mark.parametrize(
    "more",
    [
        "redirect_uri=https%3A%2F%2Fevil.example",
        "scope=user%2F*.cruds&scope=again",
        "response_type=token&response_mode=fragment",
        "code_challenge=x&code_challenge_method=plain",
        "state=other&state=third",
        "dpop_jkt=x",
        "request=eyJhbGciOiJub25lIn0.e30.",
        "prompt=none",
        "aud=https%3A%2F%2Fother.example",
        "Client_Id=portal-2",
        "x=",
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
async def test_P9_only_client_id_and_request_uri_are_read(world: World, more: str, is_before: bool) -> None:
    app, person = world.app(), Person(world)
    pushed = await app.push()
    path, _, query = address(pushed).partition("?")
    url = f"{path}?{more}&{query}" if is_before else f"{path}?{query}&{more}"
    page = await person.submit(await person.visit(url), username="anna", password=PASSWORD)
    reply = await person.consent(page)
    assert (reply.header("location") or "").startswith(f"{REDIRECT_URI}?code=")
    answer = answer_of(reply)
    assert answer["state"] == "s-1"
    tokens = await app.redeem(answer["code"])
    assert set(tokens.json["scope"].split()) == {
        "fhirUser",
        "offline_access",
        "launch/patient",
        "patient/*.rs",
    }


@pytest.mark.parametrize("name", ["client_id", "request_uri"])
async def test_P9_client_id_and_request_uri_come_once(world: World, name: str) -> None:
    pushed = await world.app().push()
    value = {"client_id": "portal", "request_uri": pushed.json["request_uri"]}[name]
    for again in (value, "", "other"):
        reply = await Person(world).visit(f"{address(pushed)}&{name}={quote(again, safe='')}")
        assert is_error_page(reply)
        assert f"{name} is sent more than once" in reply.text


@pytest.mark.parametrize(
    "query", ["", "client_id=portal", "request_uri=x", "request_uri=", "client_id=&request_uri="]
)
async def test_P10_without_request_uri_and_client_id_there_is_a_page(world: World, query: str) -> None:
    assert is_error_page(await Person(world).visit(f"/authorize?{query}"))


@pytest.mark.parametrize("query", ["client_id=%ff", "client_id=%zz", "request_uri=%", "a=%C3"])
async def test_P10_an_address_that_cannot_be_read_is_a_page(world: World, query: str) -> None:
    assert is_error_page(await Person(world).visit(f"/authorize?{query}"))


@pytest.mark.parametrize("more", [{}, {"request_uri": ""}, {"prompt": "none"}, {"response_mode": "fragment"}])
async def test_P10_a_request_that_was_not_pushed_never_redirects_even_to_a_registered_address(
    world: World, more: dict[str, str]
) -> None:
    person = Person(world)
    assert is_error_page(await person.visit(f"/authorize?{urlencode(world.app().asking() | more)}"))
    assert person.cookie is None


async def test_P10_a_request_object_in_the_address_is_not_a_pushed_request(world: World) -> None:
    query = {"client_id": "portal", "request": "eyJhbGciOiJub25lIn0.e30."}
    assert is_error_page(await Person(world).visit(f"/authorize?{urlencode(query)}"))


async def test_OIDC_3_1_2_1_a_form_is_sent_on_to_the_address_that_says_the_same(world: World) -> None:
    pushed = await world.app().push()
    form = {"client_id": "portal", "request_uri": pushed.json["request_uri"], "state": "other", "scope": "x"}
    sent = await world.post("/authorize", form)
    assert (sent.status, sent.header("location")) == (303, address(pushed))
    assert sent.header("cache-control") == "no-store"
    # Browsers keep the cookie from another site's form: what answers one must not take the session's place.
    assert sent.headers("set-cookie") == []
    assert not is_error_page(await Person(world).visit(sent.header("location") or ""))


async def test_OIDC_3_1_2_1_a_form_leaves_the_person_signed_in(world: World) -> None:
    person, app = Person(world), world.app()
    await allows(world, person, await app.push())
    pushed = await app.push()
    sent = await world.post("/authorize", {"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    page = await person.visit(sent.header("location") or "")
    assert 'id="allow"' in page.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"client_id=portal", b"request_uri=x", b"client_id=portal&request_uri=", b"client_id=%ff&request_uri=%zz",
        b"client_id=portal&request_uri=https://evil.example/", b"client_id=portal&client_id=portal&request_uri=x",
    ],
)  # fmt: skip
async def test_P10_a_form_without_a_pushed_request_is_a_page(world: World, body: bytes) -> None:
    assert is_error_page(await world.post("/authorize", body))


# P13: what comes back


@pytest.mark.parametrize(
    "state",
    [
        "x" * 512, "x" * 4096, " ", "a b+c%20d", "&code=evil&iss=evil", "#fragment", "é\u2028\U0001f489", '"\\<>',
        "\r\nSet-Cookie: a=b",
    ],
    ids=["512", "4096", "space", "escapes", "parameters", "fragment", "unicode", "quotes", "lines"],
)  # fmt: skip
@pytest.mark.parametrize("way", [allows, denies], ids=["success", "refusal"])
async def test_P13_state_comes_back_intact(world: World, state: str, way: Way) -> None:
    pushed = await world.app().push(state=state)
    reply = await way(world, Person(world), pushed)
    location = reply.header("location") or ""
    assert not re.search(r"[\x00-\x20\x7f-\U0010ffff\"<>\\]", location)
    parts = urlsplit(location)
    assert parts.fragment == ""
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "portal.example", "/callback")
    assert answer_of(reply)["state"] == state
    assert answer_of(reply)["iss"] == ISSUER


@ways
@pytest.mark.parametrize("state", [ABSENT, ""], ids=["absent", "empty"])
async def test_P13_an_absent_state_stays_absent(world: World, way: Way, state: Any) -> None:
    """Sent without a value is not sent (RFC 6749 3.1)."""
    assert "state" not in answer_of(await way(world, Person(world), await world.app().push(state=state)))


# P15: nothing is asked of a person for a request that is wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": f"{REDIRECT_URI}/../x"},
        {"redirect_uri": ABSENT},
        {"scope": "patient/*.cruds"},
        {"response_type": "token"},
        {"code_challenge": ABSENT},
        {"code_challenge_method": "plain"},
    ],
    ids=["foreign address", "other path", "no address", "scope", "response type", "no challenge", "plain"],
)
async def test_P15_a_wrong_request_has_no_request_uri_to_visit(world: World, changes: dict[str, Any]) -> None:
    reply = await world.app().push(**changes)
    assert reply.status == 400
    assert "request_uri" not in reply.json


async def test_P15_an_address_that_is_registered_no_more_gets_neither_page_nor_answer(world: World) -> None:
    """The registration is looked at again at every step: it may change while somebody is at the pages."""
    pushed = await world.app().push()
    person = Person(world)
    consent = await person.sign_in(pushed)
    moved = replace(world.clients["portal"], redirect_uris=("https://new.example/cb",))
    person.world = await world.reopen(clients=world.clients | {"portal": moved}, accounts=ACCOUNTS)
    for reply in (
        await person.consent(consent),
        await person.consent(consent, "deny"),
        await person.visit(address(pushed)),
        await Person(person.world).visit(address(pushed)),
    ):
        assert is_error_page(reply)
        assert "portal.example" not in reply.text


async def test_P15_a_scope_that_was_taken_from_the_client_is_not_granted(world: World) -> None:
    person = Person(world)
    consent = await person.sign_in(await world.app().push())
    narrowed = replace(world.clients["portal"], scope=("fhirUser", "launch/patient"))
    person.world = await world.reopen(clients=world.clients | {"portal": narrowed}, accounts=ACCOUNTS)
    assert is_error_page(await person.consent(consent))


async def test_P15_the_person_sees_who_asks_for_what_before_anything_is_granted(world: World) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push())
    assert "Patient portal" in page.text
    asked = [unescape(value) for value in re.findall(r'name="scope"[^>]*value="([^"]+)"', page.text)]
    assert set(asked) == {"fhirUser", "offline_access", "launch/patient", "patient/*.rs"}
    assert not [event for event in world.events if isinstance(event, ConsentGiven)]


# A1, A2, A5: the answer


@ways
@pytest.mark.parametrize("uri", [REDIRECT_URI, f"{REDIRECT_URI}?tenant=a%20b"], ids=["plain", "with query"])
async def test_A1_every_answer_names_the_issuer_once_and_holds_nothing_more(
    world: World, way: Way, uri: str
) -> None:
    reply = await way(world, Person(world), await world.app().push(redirect_uri=uri))
    location = reply.header("location") or ""
    assert location.startswith(uri + ("&" if "?" in uri else "?"))
    answer = answer_of(reply)
    assert answer["iss"] == ISSUER
    expected = {"code"} if way is allows else {"error", "error_description"}
    assert set(answer) - {"tenant"} == expected | {"state", "iss"}
    assert "#" not in location
    assert reply.answer.body == b""


@refusals
async def test_A5_a_refusal_is_access_denied_and_gives_no_code(world: World, way: Way) -> None:
    written: list[AuthorizationCode] = []
    complete = world.store.complete_authorization

    async def watched(**asked: Any) -> bool:
        written.append(asked["code"])
        return await complete(**asked)

    world.store.complete_authorization = watched  # type: ignore[method-assign]
    reply = await way(world, Person(world), await world.app().push())
    answer = answer_of(reply)
    assert answer["error"] == "access_denied"
    assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", answer["error_description"])
    assert not written


async def test_A2_codes_are_43_random_characters_and_never_the_same(world: World) -> None:
    person = Person(world)
    codes = {answer_of(await allows(world, person, await world.app().push()))["code"] for _ in range(8)}
    assert len(codes) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", code) for code in codes)
    assert len({code[:6] for code in codes}) == 8


async def test_A2_the_code_is_kept_as_a_digest_with_all_that_it_is_bound_to(world: World) -> None:
    written: list[AuthorizationCode] = []
    complete = world.store.complete_authorization

    async def watched(**asked: Any) -> bool:
        written.append(asked["code"])
        return await complete(**asked)

    world.store.complete_authorization = watched  # type: ignore[method-assign]
    app = world.app()
    pushed = await app.push(dpop_jkt=app.jkt, nonce="n-1")
    code = answer_of(await allows(world, Person(world), pushed))["code"]
    assert len(written) == 1
    record = written[0]
    assert record.id == b64(sha256(code.encode()).digest())
    assert code not in repr(record)
    assert (record.client_id, record.redirect_uri, record.code_challenge) == (
        "portal",
        REDIRECT_URI,
        challenge(),
    )
    assert (record.dpop_jkt, record.nonce, record.expires_at) == (app.jkt, "n-1", NOW + 60)


async def test_A2_a_code_from_the_pages_is_bound_to_client_key_verifier_and_address(world: World) -> None:
    async def fresh() -> tuple[Any, str]:
        app = world.app()
        pushed = await app.push(dpop_jkt=app.jkt)
        return app, answer_of(await allows(world, Person(world), pushed))["code"]

    _, code = await fresh()
    assert (await world.app("portal-2").redeem(code)).refusal == (400, "invalid_grant")
    _, code = await fresh()
    assert (await world.app().redeem(code)).refusal[0] == 400  # another DPoP key
    app, code = await fresh()
    assert (await app.redeem(code, code_verifier="w" * 43)).refusal == (400, "invalid_grant")
    app, code = await fresh()
    assert (await app.redeem(code, redirect_uri=f"{REDIRECT_URI}?tenant=a%20b")).refusal == (
        400,
        "invalid_grant",
    )
    app, code = await fresh()
    world.clock.now += 60
    assert (await app.redeem(code)).refusal == (400, "invalid_grant")
    app, code = await fresh()
    assert (await app.redeem(code)).status == 200
    assert (await app.redeem(code)).refusal == (400, "invalid_grant")


# T2, T3, T5: how it travels


@ways
async def test_T2_T3_every_step_is_303_or_a_page_and_kept_by_nobody(world: World, way: Way) -> None:
    pushed = await world.app().push()
    seen = watch(world)
    person = Person(world)
    reply = await way(world, person, pushed)
    assert len(seen) >= 3
    for step in [*seen, reply]:
        assert step.status in (200, 303)
        assert step.header("cache-control") == "no-store"
        assert step.header("referrer-policy") == ("no-referrer" if step.status == 303 else "same-origin")
        assert step.header("access-control-allow-origin") is None


async def test_T2_no_code_and_no_request_uri_is_in_a_page_or_an_address_of_ours(world: World) -> None:
    pushed = await world.app().push()
    seen = watch(world)
    code = answer_of(await allows(world, Person(world), pushed))["code"]
    handle = pushed.json["request_uri"].removeprefix(PREFIX)
    assert {step.status for step in seen} == {200, 303}
    for step in seen:
        text = step.text + (step.header("location") or "") + "".join(step.headers("set-cookie"))
        assert handle not in text
        if step.status == 200:
            assert code not in text


@pytest.mark.parametrize("path", ["/authorize", "/sign-in", "/patient", "/consent"])
async def test_T5_no_page_may_be_read_by_another_site(world: World, path: str) -> None:
    pushed = await world.app().push()
    origin = ("origin", "https://evil.example")
    for query in (urlsplit(address(pushed)).query, "interaction=x"):
        reply = await world.get(path, query=query, headers=[origin])
        assert not [name for name, _ in reply.answer.headers if name.lower().startswith("access-control")]
    asked = [origin, ("access-control-request-method", "POST")]
    reply = await world.send(http_request("OPTIONS", path, headers=asked))
    assert reply.status == 405
    assert not [name for name, _ in reply.answer.headers if name.lower().startswith("access-control")]


async def test_A1_no_error_is_ever_sent_to_an_address_that_is_not_registered(world: World) -> None:
    """Whatever is sent to these doors: a redirect leads to a page of ours or to the registered address."""
    seen = watch(world)
    person, pushed = Person(world), await world.app().push()
    page = await person.visit(address(pushed, redirect_uri="https://evil.example"))
    for path in ("/authorize", "/sign-in", "/patient", "/consent"):
        for query in (
            f"{urlsplit(address(pushed)).query}&redirect_uri=https%3A%2F%2Fevil.example",
            "redirect_uri=https%3A%2F%2Fevil.example&error=x",
            "interaction=https%3A%2F%2Fevil.example",
            "interaction=%2F%2Fevil.example&next=%2F%2Fevil.example",
        ):
            await world.get(path, query=query)
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    cookie = [("cookie", str(person.cookie)), ("content-type", "application/x-www-form-urlencoded")]
    form = hidden | {"redirect_uri": "https://evil.example", "next": "//evil.example", "action": "cancel"}
    await world.send(http_request("POST", "/sign-in", headers=cookie, body=urlencode(form).encode()))
    places = [step.header("location") for step in seen if step.status == 303]
    assert len(places) >= 3
    for place in places:
        assert place
        assert re.match(
            r"/(sign-in|patient|consent)\?interaction=[A-Za-z0-9_-]{43}$", place
        ) or place.startswith(f"{REDIRECT_URI}?error=access_denied&"), place
    assert dict(parse_qsl(urlsplit(str(places[-1])).query))["iss"] == ISSUER
