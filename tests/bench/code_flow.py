"""The whole code flow: a pushed request, the person who is signed in, code and tokens; beside npm oidc-provider."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from gateway.demo import world
from gateway.demo.client import Key
from tests.bench.cases import Load
from tests.bench.peers import node
from tests.bench.processes import Subject
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE, Place, securus

CASE = "code-flow"
_CLIENT, _USER = "portal-dpop", "stephen"
_LANES = 8
_PEOPLE = 64
_NOTE = (
    "PAR, cookies of a person who is signed in, a consent page shown and pressed, code, tokens by DPoP with nonce;"
    " all of it durable and on record"
)


@dataclass(frozen=True)
class _Contender:
    subject: Subject
    settings: dict[str, Any]
    note: str


def rows(place: Place, load: Load) -> list[dict[str, Any]]:
    """The rows of the code flow; a request is a whole flow."""
    contenders = [_securus(place)]
    if node.is_here():
        contenders.append(_oidc_provider(place))
    seen: dict[str, list[Measured]] = {each.subject.name: [] for each in contenders}
    for _ in range(load.runs):
        for each in contenders:
            seen[each.subject.name].append(_run(place, each, load))
    return [row(CASE, each.subject.name, seen[each.subject.name], each.note) for each in contenders]


def _with_people(document: dict[str, Any]) -> None:
    """Many people like one of the demonstration: of one patient only so many consents may count."""
    one = next(each for each in document["users"] if each["username"] == _USER)
    for number in range(_PEOPLE):
        name = f"{_USER}-{number}"
        document["users"].append(
            {**deepcopy(one), "username": name, "subject": name, "patient": f"{one['patient']}-{number}"}
        )


def _securus(place: Place) -> _Contender:
    gateway = securus(place, "flows", change=_with_people)
    subject = replace(gateway.subject, name="securus")
    demo = json.loads((gateway.folder / "demo.json").read_text())
    user = next(each for each in demo["users"] if each["username"] == _USER)
    settings = {
        "port": subject.port,
        "issuer": gateway.issuer,
        "paths": {"par": "/par", "authorize": "/authorize", "token": "/token"},
        "client": _CLIENT,
        "key": next(each["jwks"]["keys"][0] for each in demo["clients"] if each["client_id"] == _CLIENT),
        "redirect_uri": world.REDIRECT_URI,
        "scope": "openid launch/patient patient/*.rs",
        "people": [{"username": f"{_USER}-{n}", "password": user["password"]} for n in range(_PEOPLE)],
        "lanes": _LANES,
    }
    return _Contender(subject, settings, _NOTE)


def _oidc_provider(place: Place) -> _Contender:
    port, key = world.free_port(), Key.new("portal-1")
    command = node.issuing(place.folder, "oidc-provider-flow", port, _CLIENT, key, world.REDIRECT_URI)
    started = place.start("oidc-provider-flow", command, port)
    settings = {
        "port": port,
        "issuer": f"http://127.0.0.1:{port}",
        "paths": {"par": "/request", "authorize": "/auth", "token": "/token"},
        "client": _CLIENT,
        "key": key.private_jwk(),
        "redirect_uri": world.REDIRECT_URI,
        "scope": "openid system/Observation.rs",
        "people": [{"login": f"stephen-{n}", "password": "any"} for n in range(_LANES)],
        "lanes": _LANES,
    }
    return _Contender(Subject("oidc-provider", started.process, port), settings, node.OF_FLOWS)


def _run(place: Place, contender: _Contender, load: Load) -> Measured:
    subject = contender.subject
    file = place.folder / f"{subject.name}-flow.json"
    file.write_text(json.dumps(contender.settings))
    command = [
        "taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "tests.bench.flow_load", str(file), str(load.seconds),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        assert caller.stderr is not None
        if caller.stdout.readline() != "ready\n":
            raise RuntimeError(f"{subject.name}: {caller.stderr.read()}")
        before = subject.cpu_seconds()
        caller.stdin.write("\n")
        caller.stdin.flush()
        said = caller.stdout.readline()
        used = subject.cpu_seconds() - before
        if not said:
            raise RuntimeError(f"{subject.name}: {caller.stderr.read()}")
    flows, seconds, p50, p99 = map(float, said.split())
    return Measured(used / flows * 1e6, flows / seconds, p50, p99, subject.peak_megabytes())
