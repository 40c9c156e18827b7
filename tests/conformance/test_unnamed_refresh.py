"""Refresh requests that name no client: of public apps, as SMART App Launch 2.2 lists their parameters; of nobody else."""

from pathlib import Path

import pytest

from authz.protocol.clients import ProfileName
from tests.support.authorization_server import Person, open_world
from tests.support.smart import SmartApp, smart_world

SCOPE = "offline_access launch/patient patient/*.rs"


async def test_a_public_app_need_not_name_itself_beside_its_refresh_token(tmp_path: Path):
    async with open_world(tmp_path) as opened:
        world = await smart_world(opened, rotate_refresh_tokens=True)
        app = SmartApp(world)
        first = (await app.redeem(await app.launch(Person(world), scope=SCOPE))).json["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": first}
        answer = await world.post("/token", form, headers=[])
        assert answer.status == 200, answer.text
        assert answer.json["refresh_token"] != first
        assert (await world.post("/token", form | {"client_id": "smart-keys"}, headers=[])).status == 400
        other = {"grant_type": "client_credentials", "refresh_token": answer.json["refresh_token"]}
        assert (await world.post("/token", other, headers=[])).json["error"] == "invalid_client"


@pytest.mark.parametrize("client_id", ["smart-secret", "smart-keys"])
async def test_a_confidential_app_is_not_let_in_by_its_refresh_token(tmp_path: Path, client_id: str):
    async with open_world(tmp_path) as opened:
        world = await smart_world(opened)
        app = SmartApp(world, client_id)
        token = (await app.redeem(await app.launch(Person(world), scope=SCOPE))).json["refresh_token"]
        for handle in (token, "unknown", ""):
            form = {"grant_type": "refresh_token", "refresh_token": handle}
            assert (await world.post("/token", form, headers=[])).json["error"] == "invalid_client"
        assert (await world.post("/token", {"grant_type": "refresh_token"}, headers=[])).status == 400


async def test_a_public_app_whose_profile_was_switched_off_is_not_let_in(tmp_path: Path):
    async with open_world(tmp_path) as opened:
        world = await smart_world(opened, rotate_refresh_tokens=True)
        app = SmartApp(world)
        token = (await app.redeem(await app.launch(Person(world), scope=SCOPE))).json["refresh_token"]
        off = await smart_world(world, profiles=frozenset({ProfileName.FAPI2}))
        form = {"grant_type": "refresh_token", "refresh_token": token}
        assert (await off.post("/token", form, headers=[])).json["error"] == "invalid_client"
