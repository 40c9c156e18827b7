"""Client libraries that we did not write, over every way in which a client may be registered.

Each library runs as one program that plays all its cells and prints what it saw; each cell is a test of its own. What
a library must see follows from the cell alone: `expected` is the whole of it, and nothing else is accepted.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import PATIENT
from tests.support.client_matrix import CELLS, CODE_CELLS, SIGNED_OUT_URI, Cell, Matrix, start_matrix

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARIES = {
    "openid_client": ["node", str(HERE / "openid_client_cells.mjs")],
    "oauth4webapi": ["node", str(HERE / "oauth4webapi_cells.mjs")],
    "requests_oauth2client": [sys.executable, str(HERE / "requests_oauth2client_cells.py")],
}
_PLAY_SECONDS = 120
_OTHER_ALGORITHMS = tuple(
    cell
    for cell in CODE_CELLS
    if cell.name
    in (
        "private_key_jwt-ES256-dpop-openid-jar-jarm",
        "private_key_jwt-PS256-mtls-openid-jar-jarm",
        "self_signed_tls_client_auth-mtls-openid-plain-query",
    )
)
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("client-matrix"),
]
needs_node = pytest.mark.skipif(
    "CI" not in os.environ
    and (shutil.which("node") is None or not (HERE / "node_modules" / "openid-client").is_dir()),
    reason="needs Node.js and `npm ci` in tests/interop",
)
each_cell = pytest.mark.parametrize("cell", CELLS, ids=[cell.name for cell in CELLS])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    running = await start_matrix(tmp_path_factory.mktemp("matrix"))
    yield running
    await running.stop()


Played = dict[str, "asyncio.Task[dict[str, Any]]"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def played(matrix: Matrix, request: pytest.FixtureRequest) -> AsyncIterator[Played]:
    """library → what it saw, by cell. The libraries play at the same time, and only the cells that are tested."""
    wanted: dict[str, list[str]] = {library: [] for library in LIBRARIES}
    for item in request.session.items:
        parameters = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        if item.path == request.path and isinstance(cell := parameters.get("cell"), Cell):
            library = next(name for name in LIBRARIES if item.name.startswith(f"test_{name}"))
            if not any(mark.args[0] for mark in item.iter_markers("skipif")):
                wanted[library].append(cell.name)
    tasks = {
        library: asyncio.create_task(play(matrix, library, names))
        for library, names in wanted.items()
        if names
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def play(matrix: Matrix, library: str, names: Iterable[str]) -> dict[str, Any]:
    """cell → {seen} or {failed}, as the program of the library printed it."""
    process = await asyncio.create_subprocess_exec(
        *LIBRARIES[library], str(matrix.file), *names,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}, limit=2**20,
    )  # fmt: skip
    try:
        out, errors = await asyncio.wait_for(process.communicate(), _PLAY_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert errors == b"", errors.decode()
    return {said["cell"]: said for said in map(json.loads, out.splitlines())}


async def seen_by(played: Played, library: str, cell: Cell) -> dict[str, Any]:
    """What the library saw in this cell."""
    said = (await asyncio.shield(played[library]))[cell.name]
    assert "failed" not in said, said["failed"]
    seen: dict[str, Any] = said["seen"]
    return seen


def issuer_of(matrix: Matrix) -> str:
    return str(matrix.gateway.facts["issuer"])


# What every library must see


def expected(cell: Cell, issuer: str) -> dict[str, Any]:
    introspected: dict[str, Any] = {
        "active": True,
        "client_id": cell.name,
        "bound_by": "jkt" if cell.binding == "dpop" else "x5t#S256",
    }
    common: dict[str, Any] = {
        "token_type": "dpop" if cell.binding == "dpop" else "bearer",
        "scope": cell.scope,
        "own": 200,
        "revoked": {"read": 401, "active": False},
    }
    if cell.own:
        return common | {"other": 403, "introspected": introspected, "introspected_signed": introspected}
    introspected["patient"] = PATIENT
    seen = common | {
        "denied": "access_denied",
        "answer_parameters": ["response"] if cell.signed_responses else ["code", "iss", "state"],
        "patient": PATIENT,
        "other": 404,
        "refreshed": 200,
        "introspected": introspected,
        "introspected_signed": introspected,
        "grant_ended": {"read": 401, "refresh": "invalid_grant"},
    }
    if cell.openid:
        person = {"fhirUser": f"Patient/{PATIENT}"}
        seen["id_token"] = person | {
            "iss": issuer, "aud": cell.name, "acr": "urn:securus:acr:password", "at_hash": True,
        }  # fmt: skip
        seen["userinfo"] = person | {"name": "Stephen McLaughlin"}
    return seen


def expected_in_node(cell: Cell, issuer: str) -> dict[str, Any]:
    """The same, with what the programs for Node.js look at as well."""
    seen = expected(cell, issuer) | {"issuer": issuer}
    if cell.own:
        return seen | {"refresh_token": False}
    seen["authorization_parameters"] = ["client_id", "request_uri"]
    if cell.openid:
        seen["id_token"] |= {"nonce": True, "signed_in_just_now": True}
    if cell.openid and cell.signed_responses:
        seen["userinfo"] |= {"iss": issuer, "aud": cell.name}  # it came signed
    if cell.signed_responses:
        by_claim = "OAUTH_JWT_CLAIM_COMPARISON_FAILED"
        seen["forged"] = {
            "other_issuer": by_claim,
            "other_client": by_claim,
            "other_key": "OAUTH_INVALID_RESPONSE",
        }
    else:
        seen["forged"] = dict.fromkeys(("other_issuer", "no_issuer", "other_state"), "OAUTH_INVALID_RESPONSE")
    return seen


def check_the_wire(cell: Cell, seen: dict[str, Any]) -> None:
    """Which listener each endpoint was called on, by metadata alone, and where a nonce was asked for."""
    places, challenges = seen.pop("places"), seen.pop("challenges")
    server = "mtls" if cell.has_certificate else "public"
    doors = {"token", "revoke", *(() if cell.own else ("par",)), *(("userinfo",) if cell.openid else ())}
    assert places == dict.fromkeys(doors, server) | {"fhir": "public" if cell.binding == "dpop" else "mtls"}
    if cell.binding == "mtls":
        assert challenges == []
        return
    assert challenges[0] == ("token" if cell.own else "par"), "the first proof has no nonce"
    assert {"fhir", "userinfo"} & set(challenges), "nonces of the gateway are others"


@needs_node
@each_cell
async def test_openid_client(matrix: Matrix, played: Played, cell: Cell) -> None:
    seen = await seen_by(played, "openid_client", cell)
    check_the_wire(cell, seen)
    should = expected_in_node(cell, issuer_of(matrix))
    if cell.openid:
        should["signed_out"] = {"back": SIGNED_OUT_URI, "state": True, "then": "login_required"}
    assert seen == should


@needs_node
@each_cell
async def test_oauth4webapi(matrix: Matrix, played: Played, cell: Cell) -> None:
    seen = await seen_by(played, "oauth4webapi", cell)
    check_the_wire(cell, seen)
    by_key = cell.binding == "dpop"
    should = expected_in_node(cell, issuer_of(matrix)) | {
        "led_to": [issuer_of(matrix)],
        "stolen": [401, 401] if by_key else [401],  # without the key, and with another one
    }
    if by_key:
        should["read_by_another_server"] = {"client_id": cell.name, "scope": cell.scope}
    if by_key and not cell.own:
        refused = {"named_by_proof": "invalid_grant", "named_by_dpop_jkt": "invalid_grant"}
        should |= {"code_of_another_key": refused, "dpop_jkt_of_another_key": "invalid_dpop_proof"}
        should |= {"code_of_dpop_jkt": "dpop"}
    assert seen == should


@each_cell
async def test_requests_oauth2client(matrix: Matrix, played: Played, cell: Cell) -> None:
    should = expected(cell, issuer_of(matrix))
    if not cell.own:
        names = ("other_issuer", "other_client", "other_key")
        plain = {
            "other_issuer": "MismatchingIssuer",
            "no_issuer": "MissingIssuer",
            "other_state": "MismatchingState",
        }
        should["forged"] = dict.fromkeys(names, "InvalidSignature") if cell.signed_responses else plain
    seen = await seen_by(played, "requests_oauth2client", cell)
    assert seen == should


@pytest.mark.parametrize("algorithm", ["PS256", "EdDSA"])
async def test_libraries_check_what_the_server_signs_with_another_algorithm(
    tmp_path: Path, algorithm: str
) -> None:
    """ID tokens with their at_hash, userinfo, JARM answers and introspection."""
    with_node = not needs_node.args[0]
    running = await start_matrix(tmp_path, _OTHER_ALGORITHMS, algorithm=algorithm)
    try:
        for library in LIBRARIES if with_node else ["requests_oauth2client"]:
            said = await play(running, library, [])
            assert set(said) == {cell.name for cell in _OTHER_ALGORITHMS}
            for cell in _OTHER_ALGORITHMS:
                assert "failed" not in said[cell.name], said[cell.name]["failed"]
                seen = said[cell.name]["seen"]
                should = expected(cell, issuer_of(running))
                assert {name: seen["id_token"][name] for name in should["id_token"]} == should["id_token"]
                assert seen["introspected_signed"] == should["introspected_signed"]
    finally:
        await running.stop()
