"""`securus demo`: starts the sample store and the gateway, plays one full flow as an app would, explains each step."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gateway.demo import exchange, world
from gateway.demo.client import Key, Person, Session
from gateway.demo.exchange_steps import exchange_flow
from gateway.demo.stage import Stage, session_of, shown

_START_SECONDS = 30


def demo(state: Path, *, port: int, once: bool) -> int:
    """Run the demonstration; 0 when every step came out as it should."""
    try:
        return asyncio.run(_demo(state.resolve(), port, once))
    except KeyboardInterrupt:
        return 0


@dataclass(slots=True)
class _Processes:
    children: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def start(self, *arguments: str, log: Path) -> None:
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: S603 - our own modules, by our own interpreter
                [sys.executable, "-m", *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        self.children.append(child)
        self.logs.append(log)

    def check(self) -> None:
        for child, log in zip(self.children, self.logs, strict=True):
            if child.poll() is not None:
                said = log.read_text(errors="replace").strip().rpartition("\n")[2]
                hint = "; --port chooses another" if "cannot listen" in said else ""
                raise RuntimeError(
                    f"a process ended with code {child.returncode}: {said}{hint} (all of it: {log})"
                )

    def stop(self) -> None:
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


async def _demo(state: Path, port: int, once: bool) -> int:
    stage = Stage()
    operations = 9090 if port == 8443 else port + 2
    ports = world.Ports(port, port + 1, operations, world.free_port())
    # Before anything is written: another demonstration may run, from these very files.
    taken = [each for each in (ports.public, ports.mtls, ports.operations) if not _is_free(each)]
    if taken:
        said = f"port {taken[0]} of 127.0.0.1 is in use, perhaps by another demonstration: --port chooses another"
        print(f"securus demo: {said}", file=sys.stderr)
        return 1
    facts = await asyncio.to_thread(world.build, state, ports)
    await exchange.record_agreements(state / "securus.db", facts["fhir_base"])
    processes = _Processes([], [])
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        stage.title("Securus demonstration")
        stage.say(
            "A sample FHIR store (six synthetic patients, not a product) and the gateway in front of it start as two"
            f" processes. Everything they need stands in {state}."
        )
        processes.start("gateway.demo.fhir_server", str(ports.upstream), log=state / "upstream.log")
        processes.start("gateway", "serve", "-c", facts["config"], log=state / "gateway.log")
        await _wait_until_ready(facts, processes, state)
        await _dpop_flow(stage, facts)
        await _mtls_flow(stage, facts)
        await exchange_flow(stage, facts)
        await _audit(stage, facts)
        _summary(stage, facts)
        if not once and not stopping.is_set():
            print("\nServing on. Press Ctrl-C to end.", flush=True)
            while not stopping.is_set():
                processes.check()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 1)
    except RuntimeError as error:
        print(f"securus demo: {error}", file=sys.stderr)
        return 1
    finally:
        await asyncio.to_thread(processes.stop)
    return 1 if stage.failed else 0


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _wait_until_ready(facts: dict[str, Any], processes: _Processes, state: Path) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(_START_SECONDS * 10):
            processes.check()
            with contextlib.suppress(aiohttp.ClientError):
                gateway, store = f"{facts['ops_base']}/readyz", f"{facts['upstream_fhir_base']}/metadata"
                async with http.get(gateway) as ready, http.get(store) as capable:
                    if ready.status == capable.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"the processes did not get ready; see {state}/gateway.log")


async def _dpop_flow(stage: Stage, facts: dict[str, Any]) -> None:
    user = next(u for u in facts["users"] if u["patient"] == world.PATIENT)
    base, own = facts["fhir_base"], f"{facts['fhir_base']}/Patient/{world.PATIENT}"
    async with session_of(facts, "portal-dpop") as app:
        stage.title("A patient lets a portal read the own record (key held in the app: DPoP)")
        metadata = await app.discover()
        stage.step(
            "The app finds everything from one document",
            "An app vendor needs the address of the gateway and nothing else.",
            "GET /.well-known/oauth-authorization-server",
            f"issuer {metadata.get('issuer')}, pushed requests required: "
            f"{metadata.get('require_pushed_authorization_requests')}",
            right=metadata.get("issuer") == facts["issuer"],
        )
        scope = "fhirUser offline_access launch/patient patient/*.rs"
        pushed, verifier, state = await app.push(world.REDIRECT_URI, scope)
        stage.step(
            "The app pushes its request, proving who it is and which key it holds",
            "Nothing of the request travels through the browser, where it could be changed. The server asked for its"
            " own nonce first: a proof made in advance by a thief is worthless.",
            "POST /par  (private_key_jwt, DPoP, PKCE)",
            f"{shown(pushed)}, request_uri good for {pushed.json.get('expires_in')} s,"
            f" nonce challenges answered: {app.challenged}",
            right=pushed.status == 201 and app.challenged == 1,
        )
        person = Person(app.http)
        url = app.authorization_url(pushed.json.get("request_uri", ""))
        answer = await person.authorize(url, user["username"], user["password"])
        stage.step(
            f"{user['username']} signs in and reads who asks for what",
            "The person decides, on a page that works on a phone and without JavaScript; each scope can be unticked.",
            f"GET /authorize, then the buttons {', '.join(person.pages)}",
            f"back to the app with {', '.join(sorted(answer))}",
            right=set(answer) == {"code", "state", "iss"} and answer["state"] == state,
        )
        issued = await app.redeem(answer.get("code", ""), verifier, world.REDIRECT_URI)
        token = str(issued.json.get("access_token", ""))
        stage.step(
            "The app gets a token that only its own key can use",
            "The token names the key. Copied out of a log or a browser it opens nothing.",
            "POST /token",
            f"{shown(issued)}, {issued.json.get('token_type')}, {issued.json.get('expires_in')} s, patient"
            f" {issued.json.get('patient')}",
            right=issued.status == 200 and issued.json.get("token_type") == "DPoP",
        )
        read = await app.get(own, token)
        name = (read.json.get("name") or [{}])[0]
        stage.step(
            "The app reads the person's own record",
            "Token, key, scope and policy were checked before the first byte came back.",
            f"GET {own}",
            f"{shown(read)}, {' '.join(name.get('given', []))} {name.get('family', '')}",
            right=read.status == 200 and read.json.get("id") == world.PATIENT,
        )
        found = await app.get(f"{base}/Observation?_count=5&_sort=-date", token)
        subjects = {e["resource"]["subject"]["reference"] for e in found.json.get("entry", [])}
        stage.step(
            "A search that names nobody finds the person's own results only",
            "The gateway adds its own criterion to the search and checks every entry on the way out.",
            f"GET {base}/Observation?_count=5&_sort=-date",
            f"{shown(found)}, {len(found.json.get('entry', []))} of {found.json.get('total')} results, all about"
            f" {', '.join(subjects)}",
            right=found.status == 200 and subjects == {f"Patient/{world.PATIENT}"},
        )
        other = await app.get(f"{base}/Patient/{world.OTHER_PATIENT}", token)
        stage.step(
            "The record of somebody else does not exist for this app",
            "Not even whether there is such a patient can be learned.",
            f"GET {base}/Patient/{world.OTHER_PATIENT}",
            shown(other),
            right=other.status == 404,
        )
        await _thief(stage, app, own, token)


async def _thief(stage: Stage, app: Session, own: str, token: str) -> None:
    headers = {"Authorization": f"DPoP {token}", "DPoP": app.proof("GET", own, token)}
    first = await app.send("GET", own, headers)
    again = await app.send("GET", own, headers)
    stage.step(
        "The same proof a second time is refused",
        "A request that was recorded on its way cannot be sent again: each proof is claimed once, for all nodes.",
        f"GET {own}  (the very bytes of a request that was just answered with HTTP {first.status})",
        shown(again),
        right=first.status == 200 and again.status == 401,
    )
    own_key, app.proof_key = app.proof_key, Key.new()
    stolen = await app.get(own, token)
    app.proof_key = own_key
    stage.step(
        "A stolen token without its key is refused",
        "This is what a bearer token could not do.",
        f"GET {own}  (the token, with a proof by another key)",
        shown(stolen),
        right=stolen.status == 401,
    )
    bare = await app.send("GET", own, {"Authorization": f"Bearer {token}"})
    stage.step(
        "Nor does it pass as a bearer token",
        "No downgrade: the token says that it is bound.",
        f"GET {own}  (Authorization: Bearer)",
        shown(bare),
        right=bare.status == 401,
    )


async def _mtls_flow(stage: Stage, facts: dict[str, Any]) -> None:
    user = next(u for u in facts["users"] if u["patient"] == world.OTHER_PATIENT)
    own = f"{facts['fhir_base_mtls']}/Patient/{world.OTHER_PATIENT}"
    async with session_of(facts, "portal-mtls") as app:
        stage.title("The same with a certificate (mutual TLS)")
        await app.discover()
        pushed, verifier, _ = await app.push(world.REDIRECT_URI, "launch/patient patient/*.rs")
        person = Person(app.http)
        url = app.authorization_url(pushed.json.get("request_uri", ""))
        answer = await person.authorize(url, user["username"], user["password"])
        issued = await app.redeem(answer.get("code", ""), verifier, world.REDIRECT_URI)
        token = str(issued.json.get("access_token", ""))
        stage.step(
            "A kiosk proves itself by its certificate, end to end",
            "For devices and organisations that have certificates already; the token is bound to the certificate.",
            f"POST {app.endpoint('token_endpoint')}",
            f"{shown(issued)}, {issued.json.get('token_type')} bound to the certificate",
            right=issued.status == 200 and issued.json.get("token_type") == "Bearer",
        )
        read = await app.get(own, token)
        stage.step(
            "It reads the record of the person who signed in",
            "The certificate of the connection is compared on every request.",
            f"GET {own}",
            shown(read),
            right=read.status == 200,
        )
        async with session_of(facts, "portal-mtls-2") as thief:
            stolen = await thief.get(own, token)
        stage.step(
            "Another device with the copied token is refused",
            "It has a certificate of the same authority, but not the one that the token names.",
            f"GET {own}  (from portal-mtls-2)",
            shown(stolen),
            right=stolen.status == 401,
        )


async def _audit(stage: Stage, facts: dict[str, Any]) -> None:
    stage.title("What remains")
    arguments = [sys.executable, "-m", "gateway", "audit", "verify", "-c", facts["config"]]
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, check=False)
    stage.step(
        "Every decision was recorded before its answer went out",
        "The records are chained: one that is changed, dropped or moved is found.",
        f"securus audit verify -c {facts['config']}",
        done.stdout.strip() or done.stderr.strip(),
        right=done.returncode == 0,
    )


def _summary(stage: Stage, facts: dict[str, Any]) -> None:
    stage.title("To try it yourself")
    rows = [
        ("FHIR base", facts["fhir_base"]),
        ("FHIR base, mutual TLS", facts["fhir_base_mtls"]),
        ("Metadata", f"{facts['issuer']}/.well-known/smart-configuration"),
        ("Metrics, health", f"{facts['ops_base']}/metrics, /healthz, /readyz"),
        ("Configuration, policies", f"{facts['config']}, {Path(facts['config']).parent / 'policies'}"),
        ("Everything for tools", str(Path(facts["config"]).with_name("demo.json"))),
    ]
    for label, value in rows:
        print(f"  {label:24} {value}")
    print("  People")
    for user in facts["users"]:
        print(f"    {user['username']:14} {user['password']:20} {', '.join(user['roles'])}")
    print(f"\n  curl --cacert {facts['ca_certificate']} {facts['fhir_base']}/metadata", flush=True)
    if stage.failed:
        print(f"\n{stage.failed} steps did not come out as expected.", flush=True)
