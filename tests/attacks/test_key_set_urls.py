"""jwks_uri as a way in (I3): key floods, forged keys, URLs into our own network; over a real https server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from authz.events import KeySetFetched, Refused
from authz.fetch import Fetcher
from authz.protocol.addresses import AllowList
from authz.protocol.clients import Client
from tests.support.authorization_server import ISSUER, App, World, open_world
from tests.support.jose import ec_key, make_assertion, public_jwk
from tests.support.key_server import KeyServer, key_server

UNAVAILABLE = (
    "the key set of the client could not be had: see that its URL answers, or register keys by value"
)


@dataclass
class Stage:
    """A server of ours, the vendor's key server, and the clients of that vendor."""

    world: World
    keys: KeyServer
    lab: App
    portal: App

    async def lab_with(self, fetcher: Fetcher) -> App:
        """The same app at a server that fetches in this way."""
        world = await self.world.reopen(fetch=fetcher.get)
        return World.app(world, "lab")

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.world.events if isinstance(event, KeySetFetched)]


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with key_server(tmp_path) as keys, open_world(tmp_path) as plain:
        fetcher = keys.fetcher(origins=(ISSUER,))
        by_url: dict[str, Client] = {
            name: replace(client, jwks=(), jwks_uri=keys.url)
            for name, client in plain.clients.items()
            if name in ("lab", "portal-signed", "portal-self-signed")
        }
        world = await plain.reopen(clients=plain.clients | by_url, fetch=fetcher.get)
        names = {name: f"{name}-1" for name in by_url}
        keys.publish(*(public_jwk(world.private[name], kid=kid) for name, kid in names.items()))
        yield Stage(world, keys, world.app("lab"), world.app("portal-signed"))
        await world.server.close()
        fetcher.close()


async def test_I3_a_client_authenticates_with_a_key_that_was_fetched(stage: Stage) -> None:
    for _ in range(3):
        assert (await stage.lab.own_token()).status == 200
    assert len(stage.keys.seen) == 1
    assert stage.outcomes() == ["fetched"]


async def test_I3_a_request_object_is_checked_with_a_key_that_was_fetched(stage: Stage) -> None:
    assert (await stage.portal.push_signed()).status == 201
    assert (await stage.portal.push_signed(key=ec_key())).status == 400
    assert len(stage.keys.seen) == 1


async def test_I3_a_self_signed_certificate_is_looked_for_in_the_set_that_was_fetched(stage: Stage) -> None:
    app = stage.world.app("portal-self-signed")
    assert (await app.push()).status == 201
    app.certificate = stage.world.certificates["portal-mtls"]
    assert (await app.push()).json["error"] == "invalid_client"
    assert len(stage.keys.seen) == 1


async def test_I3_a_rotated_key_is_found_when_its_kid_is_missed(stage: Stage) -> None:
    lab, new = stage.lab, ec_key()
    assert (await lab.own_token()).status == 200
    stage.keys.publish(public_jwk(new, kid="lab-2"))
    stage.world.clock.now += 60
    stage.world.private = {**stage.world.private, "lab": new}
    assertion = make_assertion(new, "lab", ISSUER, stage.world.clock.now, header={"kid": "lab-2"})
    form = {"grant_type": "client_credentials", "client_assertion": assertion}
    assert (await lab.post("/token", form)).status == 200
    assert len(stage.keys.seen) == 2


async def test_I3_a_flood_of_kids_is_one_fetch_and_the_client_still_works(stage: Stage) -> None:
    lab, world = stage.lab, stage.world
    assert (await lab.own_token()).status == 200
    world.clock.now += 60
    for number in range(50):
        forged = make_assertion(ec_key(), "lab", ISSUER, world.clock.now, header={"kid": f"k{number}"})
        refused = await lab.post("/token", {"grant_type": "client_credentials", "client_assertion": forged})
        assert refused.refusal == (400, "invalid_client")
    assert len(stage.keys.seen) == 2
    assert (await lab.own_token()).status == 200
    assert len(stage.keys.seen) == 2


@pytest.mark.parametrize("defect", ["status", "type", "size", "not-keys", "redirect"])
async def test_I3_a_set_that_cannot_be_had_is_invalid_client_and_only_the_log_knows_why(
    stage: Stage, defect: str
) -> None:
    keys = stage.keys
    if defect == "status":
        keys.status = 500
    elif defect == "type":
        keys.headers["Content-Type"] = "text/html"
    elif defect == "size":
        keys.body += b" " * 64 * 1024
    elif defect == "not-keys":
        keys.body = b'{"keys":"none"}'
    else:
        keys.status, keys.headers["Location"] = 302, "https://169.254.169.254/latest/meta-data"
    reply = await stage.lab.own_token()
    assert reply.refusal == (400, "invalid_client")
    assert reply.json["error_description"] == UNAVAILABLE
    refusal = next(e for e in reversed(stage.world.events) if isinstance(e, Refused))
    assert refusal.detail.startswith(f"the key set at {keys.url} cannot be had: ")
    assert stage.outcomes() == ["status" if defect == "redirect" else defect]


async def test_I3_no_assertion_is_spent_while_the_key_set_cannot_be_had(stage: Stage) -> None:
    lab = stage.lab
    await lab.learn_nonce()
    assertion = lab.assertion(exp=stage.world.clock.now + 200)
    form = {"grant_type": "client_credentials", "client_assertion": assertion}
    proof = lab.proof()
    stage.keys.status = 503
    assert (await lab.post("/token", form, proof=proof)).json["error_description"] == UNAVAILABLE
    stage.keys.status = 200
    stage.world.clock.now += 60
    assert (await lab.post("/token", form, proof=proof)).status == 200


async def test_I3_the_last_set_is_believed_while_its_server_is_down(stage: Stage) -> None:
    lab = stage.lab
    assert (await lab.own_token()).status == 200
    stage.keys.status = 503
    stage.world.clock.now += 3600
    lab.nonce = None
    assert (await lab.own_token()).status == 200
    stage.world.clock.now += 24 * 3600
    lab.nonce = None
    assert (await lab.own_token()).json["error_description"] == UNAVAILABLE


async def test_I3_an_address_of_our_network_is_not_asked(stage: Stage) -> None:
    lab = await stage.lab_with(stage.keys.fetcher(allow=AllowList()))
    assert (await lab.own_token()).json["error_description"] == UNAVAILABLE
    assert stage.keys.seen == []
    assert stage.outcomes() == ["refused"]


async def test_I3_our_own_listener_is_not_asked(stage: Stage) -> None:
    lab = await stage.lab_with(stage.keys.fetcher(ports=(stage.keys.port,)))
    assert (await lab.own_token()).json["error_description"] == UNAVAILABLE
    assert stage.keys.seen == []


async def test_I3_a_set_with_a_private_key_opens_nothing(stage: Stage) -> None:
    key = stage.world.private["lab"]
    assert (await stage.lab.own_token()).status == 200
    stage.world.clock.now += 3600
    stage.lab.nonce = None
    stage.keys.publish(public_jwk(key, kid="lab-1") | {"d": "AA"})
    again = await stage.lab_with(stage.keys.fetcher())
    assert (await again.own_token()).json["error_description"] == UNAVAILABLE


async def test_I3_a_client_without_keys_is_not_let_in_by_an_empty_set(stage: Stage) -> None:
    stage.keys.publish()
    assert (await stage.lab.own_token()).json["error_description"] == UNAVAILABLE


@pytest.mark.parametrize("host", ["keys..example", f"{'k' * 64}.example"])
async def test_I3_a_name_that_no_name_server_is_asked_for_is_a_key_set_that_cannot_be_had(
    stage: Stage, host: str
) -> None:
    by_url = {"lab": replace(stage.world.clients["lab"], jwks_uri=f"https://{host}/jwks")}
    fetcher = Fetcher(allow=AllowList(), own_origins=(ISSUER,), own_ports=())
    world = await stage.world.reopen(clients=stage.world.clients | by_url, fetch=fetcher.get)
    answer = await world.app("lab").own_token()
    assert answer.refusal == (400, "invalid_client")
    assert UNAVAILABLE in answer.json["error_description"]
    await world.server.close()
    fetcher.close()
