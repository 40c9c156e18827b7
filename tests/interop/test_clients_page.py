"""Every program of docs/clients.md, as it stands there, against a gateway that runs as a process."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import PATIENT
from tests.interop.test_client_matrix import needs_node
from tests.support.client_matrix import CODE_CELLS, Matrix, start_matrix

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.S))
BY_KEY, BY_CERTIFICATE = (
    next(cell for cell in CODE_CELLS if cell.name == name)
    for name in ("private_key_jwt-ES256-dpop-openid-plain-query", "tls_client_auth-mtls-openid-plain-query")
)
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("client-matrix")]
in_the_loop_of_the_module = pytest.mark.asyncio(loop_scope="module")
# What the page calls your registration; the person is one of the demonstration's.
_NODE_APP = """
import { Person } from './person.mjs'
export const { %s } = %s
const person = %s
export const browser = (url) => new Person().authorize(String(url), person)
"""
_PYTHON_APP = """
import asyncio, ssl
from urllib.parse import urlencode
import aiohttp
from gateway.demo.client import Person
globals().update(%r)
person = %r
def browser(url):
    return asyncio.run(_browser(url))
async def _browser(url):
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority))
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        answer = await Person(http).authorize(url, person["username"], person["password"])
    return f"{redirect_uri}?{urlencode(answer)}"
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    running = await start_matrix(tmp_path_factory.mktemp("page"), (BY_KEY, BY_CERTIFICATE))
    yield running
    await running.stop()


def registration(matrix: Matrix, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page calls app, in the names of Python, and the person."""
    told = json.loads(matrix.file.read_text())
    cell = next(cell for cell in told["cells"] if cell["name"] == name)
    names = ("client_id", "jwk", "redirect_uri", "certificate", "certificate_key")
    app = {name: cell[name] for name in names} | {
        "issuer": told["issuer"],
        "fhir_base": told["fhir_base"],
        "fhir_base_mtls": told["fhir_base_mtls"],
        "authority": told["ca_certificate"],
    }
    return app, told["person"]


async def printed(folder: Path, authority: str, *command: str) -> Any:
    """The JSON that the program prints; it must end well."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    environment |= {"NODE_EXTRA_CA_CERTS": authority, "REQUESTS_CA_BUNDLE": authority}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


def test_every_program_of_the_page_is_run_here() -> None:
    assert set(PROGRAMS) == {"openid-client.mjs", "oauth4webapi.mjs", "python_client.py"}


@needs_node
@in_the_loop_of_the_module
@pytest.mark.parametrize(
    ("program", "client"),
    [("openid-client.mjs", BY_KEY.name), ("oauth4webapi.mjs", BY_CERTIFICATE.name)],
    ids=["openid-client", "oauth4webapi"],
)
async def test_a_program_for_node_reads_the_own_record(
    matrix: Matrix, tmp_path: Path, program: str, client: str
) -> None:
    app, person = registration(matrix, client)
    named = {re.sub(r"_(\w)", lambda found: found[1].upper(), name): value for name, value in app.items()}
    (tmp_path / "app.mjs").write_text(_NODE_APP % (", ".join(named), json.dumps(named), json.dumps(person)))
    (tmp_path / program).write_text(PROGRAMS[program])
    (tmp_path / "person.mjs").symlink_to(HERE / "person.mjs")
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    assert (await printed(tmp_path, app["authority"], "node", program))["id"] == PATIENT


@in_the_loop_of_the_module
async def test_the_program_in_Python_reads_the_own_record(matrix: Matrix, tmp_path: Path) -> None:
    app, person = registration(matrix, BY_KEY.name)
    (tmp_path / "app.py").write_text(_PYTHON_APP % (app, person))
    (tmp_path / "python_client.py").write_text(PROGRAMS["python_client.py"])
    assert (await printed(tmp_path, app["authority"], sys.executable, "python_client.py"))["id"] == PATIENT
