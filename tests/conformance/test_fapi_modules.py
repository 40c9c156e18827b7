"""The ledger of the OpenID Foundation's suite: each module of its plans for authorization servers, and what shows it here.

The plans are FAPI2-Security-Profile-Final and FAPI2-Message-Signing-Final with the profile plain_fapi. A module drives
the server as a client does and judges the answers; the tests that a row names make the same requests and claims, for
every variant of the plans. Modules of other profiles and of Grant Management, which is not announced, do not apply.
"""

from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.authorization_server import World
from tests.support.jose import ABSENT
from tests.support.ledger import names_of_tests
from tests.support.variants import VariantApp, over, signed_in

ROWS = [
    line.split("\t")
    for line in (Path(__file__).parent / "fapi_modules.tsv").read_text(encoding="utf-8").splitlines()
]


def test_every_module_is_there_once() -> None:
    assert ROWS[0] == ["module", "status", "evidence"]
    modules = [row[0] for row in ROWS[1:]]
    assert len(modules) == len(set(modules)) == 77
    assert all(module.startswith("fapi2-security-profile-final-") for module in modules)


@pytest.mark.parametrize(
    "row", ROWS[1:], ids=lambda row: row[0].removeprefix("fapi2-security-profile-final-")
)
def test_a_module_says_what_becomes_of_it(row: list[str]) -> None:
    _, status, evidence = row
    assert status in ("met", "not applicable")
    assert (status == "met") == evidence.startswith("test_")


def test_the_tests_that_are_named_exist() -> None:
    named = {name for row in ROWS[1:] if row[1] == "met" for name in row[2].split(" ")}
    assert named <= set(names_of_tests())


@over()
async def test_P13_a_state_of_1000_characters_comes_back_intact(app: VariantApp) -> None:
    state = "0aZ-._~" * 142 + "123456"
    assert len(state) == 1000
    assert (await app.authorize(await app.request(state=state)))["state"] == state


@over(signed=True)
async def test_S2_a_state_in_the_address_alone_does_not_come_back(matrix: World, app: VariantApp) -> None:
    pushed = await app.push_form(app.form(state=ABSENT) | {"state": "in the form"})
    person = await signed_in(matrix)
    asked = {
        "client_id": app.client_id,
        "request_uri": pushed.json["request_uri"],
        "state": "in the address",
    }
    page = await person.visit(f"/authorize?{urlencode(asked)}")
    answer = app.answer(await person.consent(page))
    assert "code" in answer
    assert "state" not in answer
