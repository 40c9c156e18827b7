"""Two nodes of a cluster that are given the same thing at one moment, many times over."""

from collections import Counter
from contextlib import AsyncExitStack

from tests.support.cluster import (
    ROUNDS,
    Cluster,
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
