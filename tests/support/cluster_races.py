"""Two nodes of a cluster that are given the same thing at one moment, many times over."""

from collections import Counter
from contextlib import AsyncExitStack

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.cluster import (
    ROUNDS,
    SCOPE,
    Cluster,
    Visitor,
    assertion_of,
    learn,
    one_to_each,
    races,
    said,
)
from tests.support.gateway import Reply
from tests.support.workers import Connection, at_once, post
from tests.support.workers_load import own_chart, reading

PAIRS = [(0, 1), (1, 2), (2, 0)]
LANES = 6


def of_pair(lane: list[Connection], number: int) -> list[Connection]:
    """The two connections of this race, and which of them is written to first."""
    pair = [lane[node] for node in PAIRS[number % len(PAIRS)]]
    return pair if number % 2 else pair[::-1]


async def lanes_of(stack: AsyncExitStack, cluster: Cluster) -> list[list[Connection]]:
    """In each lane a connection to each node."""
    return [await stack.enter_async_context(one_to_each(cluster.nodes)) for _ in range(LANES)]


def count(wins: Counter[int], pair: list[Connection], replies: list[Reply], status: int) -> None:
    """Note at which node somebody won."""
    for connection, reply in zip(pair, replies, strict=True):
        wins[connection.pid] += reply.status == status


async def race_for_proofs(cluster: Cluster) -> None:
    """A proof at two nodes: one takes it."""
    first = cluster.nodes[0]
    async with first.session("portal-dpop") as app, AsyncExitStack() as stack:
        token = await own_chart(first, app)
        lanes = await lanes_of(stack, cluster)
        wins = Counter[int]()

        async def race(lane: int, number: int) -> None:
            pair = of_pair(lanes[lane], number)
            request = reading(first, app, token)
            replies = await at_once(pair, [request, request])
            assert sorted(reply.status for reply in replies) == [200, 401], [r.body for r in replies]
            learn(app, "gateway", replies)
            count(wins, pair, replies, 200)

        rate = await races(ROUNDS or 300, LANES, race)
        said("proofs", {"races": wins.total(), "a second": round(rate), "won": sorted(wins.values())})
        assert len(wins) == 3  # or some node was in no race


async def race_for_assertions(cluster: Cluster) -> None:
    """A client assertion at two nodes: one takes it."""
    first = cluster.nodes[0]
    async with first.session("lab-backend") as app, AsyncExitStack() as stack:
        await first.own_token(app, "system/Observation.rs")
        url = app.endpoint("token_endpoint")
        lanes = await lanes_of(stack, cluster)
        wins = Counter[int]()

        async def race(lane: int, number: int) -> None:
            pair = of_pair(lanes[lane], number)
            form = {
                "grant_type": "client_credentials",
                "scope": "system/Observation.rs",
                **assertion_of(app),
            }
            requests = [post(url, [("DPoP", app.proof("POST", url))], form) for _ in pair]
            replies = await at_once(pair, requests)
            assert sorted(reply.status for reply in replies) == [200, 400], [r.body for r in replies]
            assert {reply.json.get("error") for reply in replies} == {None, "invalid_client"}
            learn(app, "authorization server", replies)
            count(wins, pair, replies, 200)

        rate = await races(ROUNDS or 300, LANES, race)
        said("assertions", {"races": wins.total(), "a second": round(rate), "won": sorted(wins.values())})
        assert len(wins) == 3


async def pushed(app: Session) -> tuple[str, str]:
    """The address of a pushed request, and its code verifier."""
    reply, verifier, _ = await app.push(world.REDIRECT_URI, SCOPE)
    assert reply.status == 201, reply.body
    return app.authorization_url(reply.json["request_uri"]), verifier


def code_of(reply: Reply) -> str | None:
    """The code of a redirect back to the app."""
    location = reply.header("location") or ""
    return location.partition("code=")[2].partition("&")[0] or None


async def race_for_codes(cluster: Cluster) -> None:
    """A request_uri at two nodes, then its code: of each one use wins."""
    first = cluster.nodes[0]
    user = next(user for user in first.facts["users"] if user["username"] == "stephen")
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(n.session("portal-dpop")) for n in cluster.nodes]
        for app in sessions:
            await app.discover()
            app.proof_key = sessions[0].proof_key
            app.nonces = sessions[0].nonces
        lanes = await lanes_of(stack, cluster)
        browsers = [[Visitor(sessions[n % 3].http), Visitor(sessions[n % 2].http)] for n in range(LANES)]
        url = sessions[0].endpoint("token_endpoint")
        wins, winners = Counter[int](), Counter[int]()

        async def race(lane: int, number: int) -> None:
            pair = of_pair(lanes[lane], number)
            app = sessions[number % 3]
            address, verifier = await pushed(app)
            requests = []
            for browser in browsers[lane]:
                action, fields = await browser.consent_page(address, "stephen", user["password"])
                requests.append(post(action, [browser.cookie], fields))
            replies = await at_once(pair, requests)
            assert sorted(reply.status for reply in replies) == [303, 400], [r.body for r in replies]
            (code,) = [found for reply in replies if (found := code_of(reply))]
            count(wins, pair, replies, 303)
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": world.REDIRECT_URI,
            }
            requests = [post(url, [("DPoP", app.proof("POST", url))], form | assertion_of(app)) for _ in pair]
            replies = await at_once(pair, requests)
            learn(app, "authorization server", replies)
            # None wins where the second use was seen before the first was answered: what it got is void by then.
            assert [reply.json.get("error") for reply in replies if reply.status != 200] in (
                ["invalid_grant"],
                ["invalid_grant"] * 2,
            ), [r.body for r in replies]
            winners[sum(reply.status == 200 for reply in replies)] += 1

        rate = await races(ROUNDS or 100, LANES, race)
        said("request_uris", {"races": wins.total(), "a second": round(rate), "won": sorted(wins.values())})
        said("codes", {f"won by {number}": times for number, times in sorted(winners.items())})
        assert len(wins) == 3
        assert winners[1] > 0
