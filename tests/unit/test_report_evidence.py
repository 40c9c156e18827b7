"""What the conformance report reads: certificates, TLS contexts, keys and hashes of a configuration, and the verb."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from argon2 import PasswordHasher

from authz.clock import system_clock
from gateway.cli import main
from gateway.config.document import load
from gateway.demo import world
from gateway.report.evidence import gather
from gateway.report.report import make
from gateway.report.rules.facts import Facts
from gateway.report.rules.table import Verdict
from tests.support.jose import ec_key, public_jwk, rsa_key, self_signed_certificate

PORTS = world.Ports(20443, 20444, 20090, 20080)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's configuration."""
    made = tmp_path_factory.mktemp("report")
    world.build(made, PORTS)
    return made


def facts(folder: Path, **more: Any) -> Facts:
    """The facts of the configuration in folder."""
    return gather(load(folder / "gateway.yaml", {}), now=system_clock(), **more)


def changed(folder: Path, name: str, **changes: Any) -> Path:
    """The configuration with one section changed, in a file beside it."""
    document = yaml.safe_load((folder / "gateway.yaml").read_text())
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / name
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_configuration_of_the_demonstration_fails_nothing(folder: Path) -> None:
    report = make(facts(folder, jwks={"keys": [public_jwk(ec_key(), kid="k1", use="sig", alg="ES256")]}))
    assert [row.as_json() for row in report.failures] == []
    assert {row.rule.id for row in report.rows if "GET /report" in row.finding.why} == set()


def test_the_listeners_are_read_from_the_contexts_that_they_use(folder: Path) -> None:
    public, mtls = facts(folder).listeners
    assert public.versions == mtls.versions == ("TLSv1_2", "TLSv1_3")
    assert len(public.ciphers) == 6
    assert [c.key.kind for c in (*public.certificates, *mtls.anchors)] == ["EC", "EC"]
    assert (public.sees_client_certificates, mtls.sees_client_certificates) == (False, True)


def test_a_certificate_that_cannot_be_read_is_a_failure_and_no_crash(folder: Path) -> None:
    (folder / "broken.pem").write_text("x")
    files = {"certificate": {"file": "broken.pem"}, "key": {"file": "broken.pem"}}
    listen = yaml.safe_load((folder / "gateway.yaml").read_text())["listen"]
    listen["public"]["tls"] = files
    path = changed(folder, "broken.yaml", listen=listen)
    report = make(gather(load(path, {}), now=system_clock()))
    assert "fapi2-5.2.1-2" in {row.rule.id for row in report.unmet}


def test_a_listener_behind_a_proxy_has_no_TLS_of_its_own(folder: Path) -> None:
    listen = yaml.safe_load((folder / "gateway.yaml").read_text())["listen"]
    listen["public"] = {
        "address": "127.0.0.1",
        "port": 20443,
        "trusted_proxies": {
            "addresses": ["10.0.0.5"],
            "client_certificate": {"header": "Client-Cert", "form": "rfc9440"},
        },
    }
    path = changed(folder, "behind.yaml", listen=listen)
    public = gather(load(path, {}), now=system_clock()).listeners[0]
    assert (public.tls, public.proxies, public.sees_client_certificates) == (False, ("10.0.0.5",), True)


def test_keys_and_certificates_of_clients_are_described_not_shown(folder: Path) -> None:
    key = ec_key()
    certificate = self_signed_certificate(key)
    jwks = {
        "keys": [
            public_jwk(key, kid="a", x5c=[base64.b64encode(certificate).decode()]),
            public_jwk(rsa_key(), kid="b", use="sig"),
        ]
    }
    (folder / "own.jwks.json").write_text(json.dumps(jwks))
    clients = [
        {
            "client_id": "own",
            "name": "Own",
            "authentication": "self_signed_tls_client_auth",
            "grants": ["client_credentials"],
            "scope": "system/Observation.rs",
            "jwks": {"file": "own.jwks.json"},
        }
    ]
    path = changed(folder, "own.yaml", clients=clients)
    (found,) = gather(load(path, {}), now=system_clock()).clients
    assert [(k.kind, k.bits, k.kid) for k in found.keys] == [("EC", 256, "a"), ("RSA", 2048, "b")]
    assert [c.place for c in found.certificates] == ["clients[own].jwks"]


def test_published_keys_that_are_too_short_or_no_keys_are_seen(folder: Path) -> None:
    short = {"kty": "RSA", "n": "A" * 171, "e": "AQAB", "kid": "s", "use": "sig"}
    found = facts(folder, jwks={"keys": [short, {"kty": "EC"}]})
    assert found.jwks is not None
    assert [(k.kind, k.bits, k.algorithms) for k in found.jwks] == [("RSA", 1024, ()), ("EC", 0, ())]
    assert [row.rule.id for row in make(found).unmet if row.rule.id.startswith("fapi2-5.4.1")] == [
        "fapi2-5.4.1-5"
    ]


def test_the_cost_of_a_hash_is_read_and_its_person_not_named(folder: Path) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("pw")
    (folder / "weak.argon2").write_text(weak)
    (folder / "odd.argon2").write_text("$argon2id$odd")
    users = [
        {"username": name, "subject": name, "name": "Somebody", "password": {"file": f"{name}.argon2"}}
        for name in ("weak", "odd")
    ]
    path = changed(folder, "weak.yaml", users=users)
    found = gather(load(path, {}), now=system_clock())
    assert [(p.place, p.memory_kib) for p in found.passwords] == [
        ("users[1].password", 8),
        ("users[2].password", 0),
    ]
    text = json.dumps(make(found).as_json())
    assert weak not in text
    assert "Somebody" not in text


def test_the_verb_prints_the_report_and_exits_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "-c", str(folder / "gateway.yaml")]) == 0
    text = capsys.readouterr().out
    assert "FAPI 2.0 Message Signing" in text
    assert text.rstrip().endswith("not applicable")


def test_the_verb_exits_1_when_something_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = [{"username": "a", "subject": "lab-backend", "name": "A", "password": {"file": "stephen.argon2"}}]
    path = changed(folder, "same.yaml", users=users)
    assert main(["report", "--json", "-c", str(path)]) == 1
    value = json.loads(capsys.readouterr().out)
    failed = {row["rule"] for row in value["rows"] if row["verdict"] == str(Verdict.FAIL)}
    assert failed == {"fapi2-6.5-1", "oauth21-7.4-1", "bcp-4.15-1"}
    assert not value["met"]
