"""Three nodes over one PostgreSQL: whatever counts once counts once, at whichever two nodes it is used at one moment.

A quick run races a few hundred times; SECURUS_RACES=10000 as often as one likes.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.cluster import (
    ROUNDS,
    SCOPE,
    Cluster,
    Visitor,
    assertion_of,
    learn,
    races,
    said,
    three_nodes,
)
from tests.support.cluster_races import (
    LANES,
    count,
    lanes_of,
    of_pair,
    race_for_assertions,
    race_for_proofs,
)
from tests.support.gateway import Reply
from tests.support.workers import at_once, post

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("races")) as running:
        yield running


async def test_D5_a_proof_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_proofs(cluster)


async def test_C6_an_assertion_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_assertions(cluster)


async def pushed(app: Session) -> tuple[str, str]:
    """The address of a pushed request, and its code verifier."""
    reply, verifier, _ = await app.push(world.REDIRECT_URI, SCOPE)
    assert reply.status == 201, reply.body
    return app.authorization_url(reply.json["request_uri"]), verifier


def code_of(reply: Reply) -> str | None:
    """The code of a redirect back to the app."""
    location = reply.header("location") or ""
    return location.partition("code=")[2].partition("&")[0] or None


async def test_P8_A3_of_one_request_uri_and_of_its_code_at_two_nodes_at_once_one_use_wins(
    cluster: Cluster,
) -> None:
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
