"""gateway.yaml: every mistake at its place, all in one run, and never the value of a secret."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.authorization_details import DetailType
from authz.protocol.clients import AuthenticationMethod, BindingKind
from authz.storage.valkey_settings import ValkeySettings
from gateway.audit_settings import AuditLogSettings
from gateway.config.document import ConfigErrors, load
from gateway.config.profiles import shipped
from gateway.demo.client import Key
from gateway.policy.details_layer import FHIR_ACCESS
from gateway.settings import GatewaySettings, PickerSettings, RequestRate, ResponseSignatures, UpstreamProfile

ROOT = Path(__file__).parents[2]
SECRET = "SECRET-VALUE-7f3a"
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA"

CONFIGURATION = """\
version: 1
public_url: https://fhir.example
mtls_url: https://mtls.fhir.example
listen:
  public: {port: 8443, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}
  mtls: {port: 8444, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}
keys:
  encryption_key: {file: encryption.key}
upstreams:
  fhir: {kind: fhir-r4, at: /fhir/r4, base: "http://127.0.0.1:8080/fhir"}
policies: policies
users:
  - {username: ann, subject: s1, name: Ann, password: {file: ann.argon2}}
clients:
  - client_id: portal
    name: Portal
    authentication: private_key_jwt
    grants: [authorization_code]
    redirect_uris: [https://portal.example/callback]
    scope: openid patient/*.rs
    jwks: {file: portal.jwks}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration beside everything that it names."""
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("x")
    (tmp_path / "ann.argon2").write_text(HASH + "\n")
    (tmp_path / "portal.jwks").write_text(json.dumps({"keys": [Key.new().public]}))
    (tmp_path / "policies").mkdir()

    def written(text: str) -> Path:
        path = tmp_path / "gateway.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def changed(*changes: tuple[str, str]) -> str:
    """The configuration with each first text replaced by its second; what is not found is a mistake of the test."""
    text = CONFIGURATION
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_picker_is_off_without_its_section_and_has_limits(write: Write) -> None:
    without = load(write(CONFIGURATION), {})
    assert without.upstreams[0].picker is None
    assert not without.authorization.resources[0].picker
    bare = load(write(changed(("at: /fhir/r4,", "at: /fhir/r4, picker: {},"))), {})
    assert bare.upstreams[0].picker == PickerSettings(page=20, searches_per_minute=30, lists_at_once=False)
    assert bare.authorization.resources[0].picker
    said = "at: /fhir/r4, picker: {page: 5, searches: 7/min, at_once: true},"
    full = load(write(changed(("at: /fhir/r4,", said))), {})
    assert full.upstreams[0].picker == PickerSettings(5, 7, True)


def test_clients_of_SMART_have_RS256_for_ID_tokens_unless_they_choose_and_others_never(write: Write) -> None:
    public = """\
  - client_id: chart
    name: Chart
    profile: smart-public
    authentication: none
    grants: [authorization_code]
    redirect_uris: [https://chart.example/callback]
    scope: openid patient/*.rs
"""
    on = "authorization: {profiles: [fapi2, smart-public]}\n"
    text = on + changed(("keys:\n", "keys:\n  id_token_algorithms: [RS256]\n")) + public
    for more, algorithms in (
        ("", [None, "RS256"]),
        ("    id_token_algorithm: ES256\n", [None, "ES256"]),
        ("    response_algorithm: ES256\n", [None, None]),
    ):
        found = load(write(text + more), {})
        assert [client.id_token_algorithm for client in found.clients] == algorithms
        assert found.authorization.id_token_algorithms == ("RS256",)
        assert found.authorization.signing_algorithms == ("ES256",)


def problems(path: Path, **environ: str) -> list[str]:
    """The problems of a file, without its name."""
    with pytest.raises(ConfigErrors) as error:
        load(path, environ)
    assert SECRET not in str(error.value)
    return [str(problem).removeprefix(f"{path}:") for problem in error.value.problems]


def test_the_smallest_configuration_has_the_defaults(write: Write) -> None:
    settings = load(write(CONFIGURATION), {})
    assert isinstance(settings, GatewaySettings)
    assert [
        (listener.name, listener.port, listener.client_certificates) for listener in settings.listeners
    ] == [
        ("public", 8443, False),
        ("mtls", 8444, True),
    ]
    assert (settings.operations.address, settings.operations.port) == ("127.0.0.1", 9090)
    upstream = settings.upstreams[0]
    assert upstream.identifier == "https://fhir.example/fhir/r4"
    assert upstream.bases == {"https://fhir.example/fhir/r4", "https://mtls.fhir.example/fhir/r4"}
    assert settings.authorization.key_announced_seconds == 86400
    assert settings.authorization.lifetimes.code == 60
    assert settings.authorization.scopes_supported == ("openid", "patient/*.rs")
    client = settings.clients[0]
    assert client.authentication_method is AuthenticationMethod.PRIVATE_KEY_JWT
    assert client.binding is BindingKind.DPOP
    assert settings.accounts[0].password_hash == HASH


def test_the_number_of_workers_is_one_by_default_and_64_at_most(write: Write) -> None:
    assert load(write(CONFIGURATION), {}).workers == 1
    assert load(write(CONFIGURATION + "workers: 4\n"), {}).workers == 4
    for wrong in ("0", "65", "two"):
        (problem,) = problems(write(CONFIGURATION + f"workers: {wrong}\n"))
        assert f"workers is '{wrong}', expected a whole number from 1 to 64" in problem


def test_the_annotated_configuration_of_the_repository_is_right(tmp_path: Path) -> None:
    """Only the files that an operator makes are missing from it."""
    text = (ROOT / "gateway.yaml").read_text(encoding="utf-8")
    (tmp_path / "gateway.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "policies").mkdir()
    state = tmp_path / "state"
    state.mkdir()
    for name in ("tls.crt", "tls.key", "client-ca.pem"):
        (state / name).write_text("x")
    (state / "example.argon2").write_text(HASH)
    (state / "portal.jwks.json").write_text(json.dumps({"keys": [Key.new().public]}))
    settings = load(tmp_path / "gateway.yaml", {})
    assert settings.authorization.issuer == "https://fhir.hospital.example"
    assert settings.limits.max_header == 16 * 1024
    assert settings.authorization.lifetimes.refresh_token == 90 * 86400


def test_key_algorithms_periods_and_token_are_read(write: Write) -> None:
    lines = (
        "keys:\n  algorithms: [PS256, ES256]\n  announced_for: 2h\n  active_for: 30d\n"
        "  published_after_retirement: 2d\n  other_encryption_key: {env: OTHER}\n"
        "  pkcs11: {module: tls.crt, token: hsm, pin: {env: PIN}, label: hospital}\n"
    )
    change = ("keys:\n", lines)
    path = write(
        changed(change, ("client_id: portal\n", "client_id: portal\n    response_algorithm: ES256\n"))
    )
    settings = load(path, {"OTHER": "A" * 43, "PIN": "1234"})
    authorization = settings.authorization
    assert authorization.signing_algorithms == ("PS256", "ES256")
    assert authorization.key_announced_seconds == 7200
    assert authorization.key_active_seconds == 30 * 86400
    assert authorization.key_published_after_retirement_seconds == 2 * 86400
    assert settings.keys.other_encryption_key == bytes(32)
    token = settings.keys.pkcs11
    assert token is not None
    assert (token.token, token.pin, token.label) == ("hsm", "1234", "hospital")
    assert "1234" not in repr(settings)
    assert settings.clients[0].signed_response_algorithm == "ES256"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("", ResponseSignatures.OFF),
        ("response_signatures: off, ", ResponseSignatures.OFF),
        ("response_signatures: asked, ", ResponseSignatures.ASKED),
        ("response_signatures: on, ", ResponseSignatures.ON),
    ],
)
def test_answers_are_signed_where_a_mount_says_so(write: Write, said: str, word: ResponseSignatures) -> None:
    settings = load(write(changed(("at: /fhir/r4,", f"{said}at: /fhir/r4,"))), {})
    assert settings.upstreams[0].response_signatures is word
    assert settings.authorization.resources[0].signs is (word is not ResponseSignatures.OFF)


def test_the_systems_of_assigning_authorities_are_read_with_their_oids(write: Write) -> None:
    said = "identifier_systems: {urn:oid:2.16.840.1.113883.19.5: https://h1.example/mrn}, at: /fhir/r4,"
    settings = load(write(changed(("at: /fhir/r4,", said))), {})
    assert settings.upstreams[0].identifier_systems == {
        "urn:oid:2.16.840.1.113883.19.5": "https://h1.example/mrn"
    }


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{2.16.840: https://h1.example/mrn}", "names '2.16.840', expected urn:oid: and an OID"),
        ("{urn:oid:2.016: https://h1.example/mrn}", "expected urn:oid: and an OID"),
        ("{urn:oid:2.16: mrn}", "the system of 'urn:oid:2.16' must be a URI"),
        ("{urn:oid:2.16: 7}", "the system of 'urn:oid:2.16' must be a URI"),
        ("[urn:oid:2.16]", "upstreams.fhir.identifier_systems is a list, expected a mapping"),
    ],
)
def test_a_system_that_no_document_can_be_of_is_refused(write: Write, said: str, message: str) -> None:
    path = write(changed(("at: /fhir/r4,", f"identifier_systems: {said}, at: /fhir/r4,")))
    assert [text for text in problems(path) if message in text]


def test_every_mistake_is_found_in_one_run_in_the_order_of_the_file(write: Write) -> None:
    path = write(changed(
        ("version: 1", "version: 2"),
        ("policies: policies", "polices: policies"),
        ("port: 8444", "port: '8444'"),
        ("kind: fhir-r4", "kind: fhir-r5"),
        ("grants: [authorization_code]", "grants: [implicit]"),
        ("jwks: {file: portal.jwks}", "jwks: {file: nowhere.jwks}"),
    ))  # fmt: skip
    assert problems(path) == [
        "1:10: error: version is '2', expected a whole number from 1 to 1",
        "6:16: error: listen.mtls.port is '8444', expected a whole number from 1 to 65535",
        "10:16: error: upstreams.fhir.kind is 'fhir-r5', expected fhir-r4 or cda-rest or mhd or xds. "
        "Did you mean 'fhir-r4'?",
        "11:1: error: the configuration has no key 'polices'. Did you mean 'policies'?",
        "15:5: error: clients[0].grants is missing, expected for example [client_credentials]",
        "18:13: error: 'implicit' is not a grant of this version: authorization_code, refresh_token, client_credentials",
        f"21:18: error: clients[0].jwks: there is no file '{path.parent / 'nowhere.jwks'}'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Keys
        ("version: 1\n", "", "1:1: error: version is missing, expected 1"),
        ("version: 1", "version: 1\nversion: 1", "2:1: error: key 'version' is used twice (first in line 1)"),
        ("    name: Portal\n", "    name: Portal\n    name: Other\n",
         "17:5: error: key 'name' is used twice (first in line 16)"),
        ("    name: Portal\n", "", "15:5: error: clients[0].name is missing, expected text"),
        ("    name: Portal", "    nmae: Portal", "16:5: error: 'clients[0]' has no key 'nmae'. Did you mean 'name'?"),
        ("name: Ann", "name: 5", "13:40: error: users[0].name is '5', expected text"),
        ("name: Portal", "name: ''", "16:11: error: clients[0].name is '', expected text"),
        ("name: Portal", "name: [Portal]", "16:11: error: clients[0].name is a list, expected text"),
        ("upstreams:\n", "upstreams: {}\nx:\n", "upstreams names no store"),
        # Origins and URLs
        ("https://fhir.example\nm", "http://fhir.example\nm",
         "2:13: error: public_url is 'http://fhir.example', expected an https origin without a path"),
        ("https://fhir.example\nm", "https://fhir.example/x\nm", "expected an https origin without a path"),
        ("https://fhir.example\nm", "https://u@fhir.example\nm", "expected an https origin without a path"),
        ("https://fhir.example\nm", "https://fhir.example:99999\nm", "expected an https origin without a path"),
        ("mtls_url: https://mtls.fhir.example", "mtls_url: https://fhir.example",
         "3:11: error: mtls_url is the same as public_url: each listener has its own origin"),
        ("http://127.0.0.1:8080/fhir", "ftp://x", "expected a URL of http or https without query"),
        ("http://127.0.0.1:8080/fhir", "http://x/fhir?a=b", "expected a URL of http or https without query"),
        # Listeners
        ("mtls_url: https://mtls.fhir.example\n", "", "listen.mtls needs mtls_url, the public origin of this listener"),
        ("port: 8444", "port: 8443", "two listeners have the same address and port"),
        ("port: 8443", "port: 0", "listen.public.port is '0', expected a whole number from 1 to 65535"),
        ("port: 8443", "port: true", "listen.public.port is 'true', expected a whole number from 1 to 65535"),
        ("public: {port: 8443, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}", "public: {port: 8443}",
         "listen.public has neither 'tls' nor 'trusted_proxies': plain HTTP is never public"),
        ("mtls: {port: 8444, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}",
         "mtls: {port: 8444, trusted_proxies: {addresses: [10.0.0.5]}}",
         "listen.mtls has no 'tls': client certificates could not be seen"),
        ("public: {port: 8443,", "public: {trusted_proxies: {addresses: [10.0.0.5/33]}, port: 8443,",
         "'10.0.0.5/33' is not an address or network, such as 10.0.0.0/29"),
        ("public: {port: 8443,", "public: {trusted_proxies: {}, port: 8443,", "trusted_proxies needs 'addresses'"),
        ("public: {port: 8443,",
         "public: {trusted_proxies: {client_certificate: {header: C, form: nginx}}, port: 8443,",
         "client_certificate needs the proxies' addresses: who may send it?"),
        ("public: {port: 8443,",
         "public: {trusted_proxies: {addresses: [10.0.0.5], client_certificate: {header: C, form: ngnix}}, port: 8443,",
         "Did you mean 'nginx'?"),
        # Mounts
        ("at: /fhir/r4", "at: fhir", "10:29: error: upstreams.fhir.at is 'fhir', expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /fhir/", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /fhir//r4", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /fhir/../r4", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /fhir%2Fr4", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: '/fhir\\r4'", "expected a path such as /fhir/r4"),
        ("at: /fhir/r4", "at: /token", "upstreams.fhir.at is '/token', which is a path of the server's own"),
        ("at: /fhir/r4", "at: /.well-known/x", "which is a path of the server's own"),
        ("at: /fhir/r4", "at: /userinfo", "which is a path of the server's own"),
        ("at: /fhir/r4", "at: /logout/x", "which is a path of the server's own"),
        ("at: /fhir/r4", "at: /grants", "which is a path of the server's own"),
        ("at: /fhir/r4", "at: /account", "which is a path of the server's own"),
        ("at: /fhir/r4", "at: /encounter", "which is a path of the server's own"),
        ("at: /fhir/r4,", "at: /fhir/r4, picker: true,", "upstreams.fhir.picker is 'true', expected a mapping"),
        ("at: /fhir/r4,", "at: /fhir/r4, picker: {pages: 3},", "Did you mean 'page'?"),
        ("at: /fhir/r4,", "at: /fhir/r4, picker: {page: 0},", "expected a whole number from 1 to 100"),
        ("at: /fhir/r4,", "at: /fhir/r4, picker: {searches: 5/s},", "expected a number per minute such as 30/min"),
        ("at: /fhir/r4,", "at: /fhir/r4, mtls_only: true, picker: {},", "upstreams.fhir.picker cannot be with mtls_only"),
        ("at: /fhir/r4,", "at: /fhir/r4, response_signatures: true,",
         "upstreams.fhir.response_signatures is 'true', expected off or asked or on"),
        ("at: /fhir/r4,", "at: /fhir/r4, response_signatures: aksed,", "Did you mean 'asked'?"),
        ("at: /fhir/r4,", "at: /fhir/r4, response_signature: on,", "Did you mean 'response_signatures'?"),
        ("at: /fhir/r4,", "at: /fhir/r4, compress: gzip,", "upstreams.fhir.compress is"),
        ("at: /fhir/r4,", "at: /fhir/r4, compres: true,", "Did you mean 'compress'?"),
        ("at: /fhir/r4,", "at: /fhir/r4, ask_zip: true,", "Did you mean 'ask_gzip'?"),
        # Durations, sizes, words
        ("keys:\n", "keys:\n  announced_for: 0s\n", "8:18: error: keys.announced_for is '0s', expected 1m to 400d"),
        ("keys:\n", "keys:\n  announced_for: 500ms\n", "keys.announced_for is '500ms', expected 1m to 400d"),
        ("keys:\n", "keys:\n  announced_for: 60\n",
         "keys.announced_for is '60', expected a duration with its unit, such as 60s, 5m, 1h or 90d"),
        ("keys:\n", "keys:\n  active_for: 1h\n", "keys.active_for must be longer than keys.announced_for"),
        ("keys:\n", "keys:\n  algorithm: RS256\n", "expected ES256 or PS256 or EdDSA."),
        ("keys:\n", "keys:\n  id_token_algorithms: [RS384]\n", "keys.id_token_algorithms names 'RS384', expected RS256."),
        ("keys:\n", "keys:\n  id_token_algorithms: [RS256]\n", "switches on none of their profiles"),
        ("client_id: portal\n", "client_id: portal\n    origins: [https://a.example/]\n",
         "'https://a.example/' is not an origin as browsers send it"),
        ("scope: openid patient/*.rs", "scope: openid patient/*.rs securus/introspect",
         "securus/introspect goes with introspection: all"),
        ("scope: openid patient/*.rs", "scope: openid patient/*.rs securus/introspect\n    introspection: all",
         "securus/introspect needs client_credentials"),
        ("policies:", "authorization: {frame_ancestors: ['*']}\npolicies:", "'*' is no https origin, such as"),
        ("policies:", "authorization: {frame_ancestors: ['http://ehr.example']}\npolicies:", "is no https origin"),
        ("policies:", "authorization: {frame_ancestors: ['https://ehr.example; script-src *']}\npolicies:",
         "is no https origin"),
        ("policies:", "cors: all\npolicies:", "cors is 'all', expected registered or any."),
        ("client_id: portal\n", "client_id: portal\n    id_token_algorithm: RS256\n",
         "id_token_algorithm is 'RS256', expected ES256"),
        ("keys:\n", "keys:\n  algorithms: [ES256, ES265]\n",
         "keys.algorithms names 'ES265', expected ES256 or PS256 or EdDSA. Did you mean 'ES256'?"),
        ("keys:\n", "keys:\n  algorithms: []\n", "keys.algorithms is empty, expected for example [ES256, PS256]"),
        ("keys:\n", "keys:\n  algorithms: [ES256, ES256]\n", "keys.algorithms names one twice"),
        ("keys:\n", "keys:\n  algorithms: [PS256]\n  algorithm: ES256\n",
         "'keys' must have one of 'algorithm' and 'algorithms'"),
        ("keys:\n", "keys:\n  published_after_retirement: 359s\n",
         "keys.published_after_retirement must be at least 360 s"),
        ("keys:\n", "keys:\n  published_after_retirement: 59s\n", "is '59s', expected 1m to 400d"),
        ("keys:\n", "keys:\n  other_encryption_key: {env: SHORT}\n",
         "keys.other_encryption_key: the variable 'SHORT' is not set"),
        ("keys:\n", "keys:\n  pkcs11: {modul: tls.crt, token: t, pin: {file: tls.key}}\n",
         "'keys.pkcs11' has no key 'modul'. Did you mean 'module'?"),
        ("keys:\n", "keys:\n  pkcs11: {module: none.so, token: t, pin: {file: tls.key}}\n",
         "keys.pkcs11.module: there is no file"),
        ("keys:\n", "keys:\n  algorithm: EdDSA\n  pkcs11: {module: tls.crt, token: t, pin: {file: tls.key}}\n",
         "keys in a PKCS#11 token are for ES256 or PS256"),
        ("keys:\n", "keys:\n  pkcs11: {module: tls.crt, token: t, pin: '1234'}\n",
         "expected a reference, {file: …} or {env: …}"),
        ("client_id: portal\n", "client_id: portal\n    response_algorithm: PS256\n",
         "response_algorithm is 'PS256', expected ES256"),
        ("policies:", "limits: {max_url: 8}\npolicies:",
         "limits.max_url is '8', expected a size with its unit, such as 16KiB, 10MiB or 2GiB"),
        ("policies:", "limits: {max_url: 0KiB}\npolicies:", "limits.max_url is '0KiB'"),
        ("policies:", "limits: {concurrent_requests: 1.5}\npolicies:", "expected a whole number from 1 to 1000000"),
        ("policies:", "authorization: {lifetimes: {code: 61s}}\npolicies:",
         "authorization.lifetimes.code is '61s', expected 1s to 1m"),
        ("policies:", "authorization: {lifetimes: {pushed_request: 10m}}\npolicies:",
         "authorization.lifetimes.pushed_request is '10m', expected 1s to 599s"),
        ("policies:", "authorization: {lifetimes: {access_token: 61m}}\npolicies:",
         "authorization.lifetimes.access_token is '61m', expected 10s to 1h"),
        ("policies:", "authorization: {lifetimes: {acess_token: 60s}}\npolicies:", "Did you mean 'access_token'?"),
        ("policies:", "authorization: {profiles: [smart]}\npolicies:", "'smart' is not a profile of this version"),
        # Profiles of clients
        ("    jwks: {file: portal.jwks}\n", "    jwks: {file: portal.jwks}\n    profile: smart-asymmetric\n",
         "the profile 'smart-asymmetric' is not switched on in authorization.profiles"),
        ("    jwks: {file: portal.jwks}\n", "    jwks: {file: portal.jwks}\n    require_dpop: false\n",
         "require_dpop: false is not for the profile fapi2, whose tokens are bound to a key"),
        ("    jwks: {file: portal.jwks}\n", "    jwks: {file: portal.jwks}\n    secret: {file: portal.jwks}\n",
         "secret does not go with authentication: private_key_jwt"),
        ("authentication: private_key_jwt", "authentication: client_secret_basic",
         "authentication is 'client_secret_basic', expected"),
        ("authentication: private_key_jwt", "authentication: none", "authentication is 'none', expected"),
        ("policies:", "authorization: {dpop_nonce: no}\npolicies:",
         "authorization.dpop_nonce is 'no', expected required or offered."),
        ("policies:", "authorization: {sign_in_attempts: 10/s}\npolicies:",
         "expected a number per minute such as 10/min"),
        ("policies:", "authorization: {sign_in_attempts: \u00b2/min}\npolicies:",
         "authorization.sign_in_attempts is '\u00b2/min', expected a number per minute such as 10/min"),
        ("policies:", "authorization: {sign_in_attempts: 1001/min}\npolicies:",
         "expected a number per minute such as 10/min"),
        ("at: /fhir/r4,", "at: /fhir/r4, picker: {searches: 0/min},",
         "upstreams.fhir.picker.searches is '0/min', expected a number per minute such as 30/min"),
        ("policies: policies", "policies: nowhere", "policies: there is no folder"),
        # Authorization details
        ("policies:", "authorization_details: fhir-access\npolicies:",
         "authorization_details must be a list, such as [fhir-access], or [] to offer none"),
        ("policies:", "authorization_details: [fhir-acces]\npolicies:",
         "no type named 'fhir-acces' is shipped. Did you mean 'fhir-access'?"),
        ("policies:", "authorization_details: [7]\npolicies:",
         "authorization_details[0] must be the name of the shipped type, or a mapping"),
        ("policies:", "authorization_details: [fhir-access, fhir-access]\npolicies:", "is there twice"),
        ("policies:", "authorization_details: [{name: lab, words: W, action: [read]}]\npolicies:",
         "'authorization_details[0]' has no key 'action'. Did you mean 'actions'?"),
        ("policies:", "authorization_details: [{name: lab}]\npolicies:", "authorization_details[0].words is missing"),
        ("policies:", "authorization_details: [{name: fhir-access, words: W}]\npolicies:", "is the shipped type"),
        ("policies:", "authorization_details: [{name: a b, words: W}]\npolicies:", "'a b' is not a name of"),
        ("policies:", "authorization_details: [{name: lab, words: W, actions: [serach]}]\npolicies:",
         "'serach' is not an action. Did you mean 'search'?"),
        ("policies:", "authorization_details: [{name: lab, words: W, actions: ['*']}]\npolicies:",
         "'*' is not an action."),
        ("policies:", "authorization_details: [{name: lab, words: W, datatypes: [Observatoin]}]\npolicies:",
         "'Observatoin' is not a resource type. Did you mean 'Observation'?"),
        ("policies:", "authorization_details: [{name: lab, words: W, datatypes: []}]\npolicies:", "names nothing"),
        ("client_id: portal\n", "client_id: portal\n    authorization_details_types: [fhir-acces]\n",
         "authorization_details has no type 'fhir-acces'. Did you mean 'fhir-access'?"),
        ("name: Ann,", "name: Ann, claims: {authorization_details: []},",
         "the claim 'authorization_details' is the server's own"),
        # People
        ("users:\n", "users:\n  - {username: ann, subject: s2, name: B, password: {file: ann.argon2}}\n",
         "the username 'ann' is used twice (first in line 13)"),
        ("users:\n", "users:\n  - {username: bob, subject: s1, name: B, password: {file: ann.argon2}}\n",
         "two users have the same subject"),
        ("name: Ann,", "name: Ann, claims: {aud: x},", "the claim 'aud' is the server's own"),
        ("users:\n", "users:\n  - ann\n", "users is 'ann', expected a mapping"),
        # Clients
        ("client_id: portal\n", "client_id: portal\n    binding: tls\n",
         "clients[0].binding is 'tls', expected dpop or mtls."),
        ("scope: openid patient/*.rs", "scope: openid patient/*.sr",
         "20:12: error: 'patient/*.sr' is not a scope: SMART v1 or v2, or openid, launch …"),
        ("    redirect_uris: [https://portal.example/callback]\n", "",
         "15:5: error: clients[0] uses authorization_code and has no redirect_uris"),
        ("authentication: private_key_jwt", "authentication: client_secret_basic",
         "expected private_key_jwt or self_signed_tls_client_auth or tls_client_auth."),
        ("authentication: private_key_jwt", "authentication: tls_client_auth",
         "clients[0].certificate_subject is missing, expected a mapping"),
        ("    jwks: {file: portal.jwks}\n", "", "15:5: error: clients[0].jwks is missing, expected {file: …} or {url: …}"),
        ("jwks: {file: portal.jwks}", "jwks: {file: tls.crt}", "does not hold a JWK Set: {\"keys\": [...]}"),
        ("jwks: {file: portal.jwks}", "jwks: {uri: https://x}",
         "21:12: error: 'clients[0].jwks' has no key 'uri'. Did you mean 'url'?"),
        ("jwks: {file: portal.jwks}", "jwks: {url: https://x, file: portal.jwks}",
         "21:11: error: clients[0].jwks must have one of 'file' and 'url'"),
        ("jwks: {file: portal.jwks}", "jwks: {url: http://x/jwks}",
         "21:17: error: clients[0].jwks.url cannot be fetched: only https is fetched"),
        ("version: 1\n", "version: 1\nfetch: {allowed: []}\n",
         "2:9: error: 'fetch' has no key 'allowed'. Did you mean 'allow'?"),
        ("version: 1\n", "version: 1\nfetch: {allow: ['http://keys.lan']}\n",
         "fetch.allow: 'http://keys.lan' is not a host, an address or a network, such as keys.example or 10.0.0.0/24"),
        ("version: 1\n", "version: 1\naudit: {feed: {}}\n",
         "2:9: error: 'audit' has no key 'feed'. Did you mean 'feeds'?"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: sylog, url: 'tls://s.lan:6514'}}}\n",
         "error: audit.feeds.x.kind is 'sylog', expected fhir or syslog or file. Did you mean 'syslog'?"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: syslog, url: 'tcp://s.lan:514'}}}\n",
         "error: url: tcp:// goes to loopback only, use tls://"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: fhir, url: 'http://audit.lan/fhir'}}}\n",
         "error: url: http:// goes to loopback only, use https://"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: syslog, url: 'tls://s.lan'}}}\n",
         "error: url: 'tls://s.lan' names no port, such as tls://audit.lan:6514"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: fhir, url: 'https://a/', certificate: {file: tls.crt}}}}\n",
         "error: audit.feeds.x: certificate and key go together"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: file}}}\n",
         "error: audit.feeds.x.path is missing, expected a path"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: file, path: e, url: 'https://a.lan'}}}\n",
         "error: 'audit.feeds.x' has no key 'url'."),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: {kind: file, path: e, refuse_writes_after: {records: 0}}}}\n",
         "error: audit.feeds.x.refuse_writes_after.records is '0', expected a whole number from 1 to 1000000000"),
        ("version: 1\n", "version: 1\naudit: {feeds: {x: file}}\n",
         "error: audit.feeds.x must be a name (letters, digits, '.', '_', '-') and a mapping with kind"),
        ("version: 1\n", "version: 1\nnotifications: {office: lgo}\n",
         "2:25: error: notifications.office is 'lgo', expected log, or {url: https://…, bearer: {file: …}}."
         " Did you mean 'log'?"),
        ("version: 1\n", "version: 1\nnotifications: {'an office': log}\n",
         "2:17: error: 'an office' is no name of a receiver: letters, digits, '.', '_' and '-'"),
        ("version: 1\n", "version: 1\nnotifications: {office: {url: 'http://office.example/'}}\n",
         "error: notifications.office.url is 'http://office.example/', expected a URL of https without query"),
        ("version: 1\n", "version: 1\nnotifications: {office: {bearer: {env: NO_SUCH}}}\n",
         "error: notifications.office.url is missing, expected a URL"),
        ("version: 1\n", "version: 1\nnotifications: {office: {url: 'https://office.example/', token: x}}\n",
         "error: 'notifications.office' has no key 'token'."),
        ("version: 1\n", "version: 1\nnotifications: {office: {url: 'https://office.example/', bearer: secret}}\n",
         "error: notifications.office.bearer is text, expected a reference, {file: …} or {env: …}"),
        ("version: 1\n", "version: 1\nfetch: {certificate_authorities: {file: portal.jwks}}\n",
         "error: fetch.certificate_authorities holds no PEM certificates"),
        ("jwks: {file: portal.jwks}", "jwks: portal.jwks", "clients[0].jwks is 'portal.jwks', expected a mapping"),
    ],
)  # fmt: skip
def test_what_is_not_right_is_refused_at_its_place(write: Write, old: str, new: str, message: str) -> None:
    assert [text for text in problems(write(changed((old, new)))) if message in text]


def test_the_types_of_authorization_details_are_the_shipped_one_and_those_that_are_listed(
    write: Write,
) -> None:
    assert load(write(CONFIGURATION), {}).authorization.detail_types == (FHIR_ACCESS,)
    assert load(write(changed(("policies:", "authorization_details: []\npolicies:"))), {}).clients
    own = "{name: lab, words: Results, actions: [read, search], datatypes: [Observation]}"
    text = changed(
        ("policies:", f"authorization_details: [fhir-access, {own}]\npolicies:"),
        ("client_id: portal\n", "client_id: portal\n    authorization_details_types: [lab]\n"),
    )
    settings = load(write(text), {})
    lab = DetailType("lab", frozenset({"read", "search"}), frozenset({"Observation"}), "Results")
    assert settings.authorization.detail_types == (FHIR_ACCESS, lab)
    assert settings.clients[0].authorization_details_types == ("lab",)


@pytest.mark.parametrize("subject", ["s" * 256, "Jos\u00e9"])
def test_K5_a_subject_is_at_most_255_ASCII_characters(write: Write, subject: str) -> None:
    said = problems(write(changed(("subject: s1", f"subject: {subject}"))))
    assert said == ["13:30: error: subject must have at most 255 characters, all ASCII"]
    load(write(changed(("subject: s1", f"subject: {'s' * 255}"))), {})


@pytest.mark.parametrize(("said", "seconds"), [("8h", 28800), ("0s", 0), ("90d", 7776000)])
def test_a_client_may_have_a_default_for_the_age_of_sign_ins(write: Write, said: str, seconds: int) -> None:
    without = load(write(CONFIGURATION), {}).clients[0]
    assert without.default_max_age_seconds is None
    text = changed(("client_id: portal\n", f"client_id: portal\n    default_max_age: {said}\n"))
    assert load(write(text), {}).clients[0].default_max_age_seconds == seconds


def test_a_default_age_without_a_unit_is_refused(write: Write) -> None:
    text = changed(("client_id: portal\n", "client_id: portal\n    default_max_age: 3600\n"))
    assert "default_max_age is '3600', expected a duration with its unit" in problems(write(text))[0]


def test_overlapping_mounts_are_named_once(write: Write) -> None:
    fhir = '  fhir: {kind: fhir-r4, at: /fhir/r4, base: "http://127.0.0.1:8080/fhir"}\n'
    for at, overlaps in (
        ("/fhir/r4", True),
        ("/fhir", True),
        ("/fhir/r4/x", True),
        ("/fhir/r4b", False),
        ("/f", False),
    ):
        path = write(changed((fhir, f"{fhir}  other: {{kind: fhir-r4, at: {at}, base: 'http://x/y'}}\n")))
        if overlaps:
            assert problems(path) == [f"10:3: error: the mounts '/fhir/r4' and '{at}' overlap"]
        else:
            assert len(load(path, {}).upstreams) == 2


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("https://portal.example/callback", True),
        ("https://portal.example:8443/a?b=c", True),
        ("http://127.0.0.1/callback", True),
        ("http://127.0.0.1:0/callback", True),
        ("http://[::1]:8080/callback", True),
        ("com.example.app:/callback", True),
        ("http://portal.example/callback", False),
        ("http://localhost/callback", False),
        ("http://127.0.0.1.evil.example/callback", False),
        ("http://127.0.0.1@evil.example/callback", False),
        ("http://[::1].evil.example/callback", False),
        ("https://", False),
        ("https:///callback", False),
        ("https://user@portal.example/", False),
        ("https://*.portal.example/", False),
        ("https://portal.example/#x", False),
        ("https://portal.example/a b", False),
        ("https://portal.example/\\", False),
        ("https://portal.example/\u00e9", False),
        ("https://portal.example:x/", False),
        ("https://[portal/", False),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)", False),
        ("https://portal.example/*", False),
        ("https://portal.example/a/../b", False),
        ("https://portal.example/a/..;/b", False),
        ("https://portal.example/a/%2e%2E/b", False),
        ("https://portal.example/a%2Fb", False),
        ("https://portal.example/?code=1", False),
        ("https://portal.example/?a=b&st%61te=", False),
        ("/callback", False),
        ("portal.example/callback", False),
    ],
)
def test_a_redirect_uri_leads_to_one_place_that_is_the_clients(write: Write, uri: str, right: bool) -> None:
    path = write(changed(("[https://portal.example/callback]", json.dumps([uri], ensure_ascii=False))))
    if right:
        assert load(path, {}).clients[0].redirect_uris == (uri,)
    else:
        found = problems(path)
        assert len(found) == 1
        assert found[0].startswith("19:20: error: redirect_uris: '")


NO_MTLS = (
    ("mtls_url: https://mtls.fhir.example\n", ""),
    ("  mtls: {port: 8444, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}\n", ""),
)


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_certificates_of_clients_need_a_listener_that_sees_them(write: Write, method: str) -> None:
    client = (
        "authentication: private_key_jwt",
        f"authentication: {method}\n    certificate_subject: {{san_dns: p.example}}",
    )
    assert problems(write(changed(*NO_MTLS, client))) == [
        f"15:21: error: {method} needs a listener that sees client certificates"
    ]
    assert load(write(changed(client)), {}).clients[0].authentication_method == method
    bound = ("    name: Portal", "    binding: mtls\n    name: Portal")
    assert problems(write(changed(*NO_MTLS, bound))) == [
        "14:14: error: binding mtls needs a listener that sees client certificates"
    ]


def test_a_trusted_proxy_that_hands_certificates_on_is_such_a_listener(write: Write) -> None:
    proxy = (
        "trusted_proxies: {addresses: [10.0.0.5], client_certificate: {header: Client-Cert, form: rfc9440}}"
    )
    path = write(changed(NO_MTLS[1], ("public: {port: 8443,", f"public: {{{proxy}, port: 8443,"),
                         ("    name: Portal", "    binding: mtls\n    name: Portal")))  # fmt: skip
    settings = load(path, {})
    assert settings.clients[0].binding is BindingKind.MTLS
    proxies = settings.listeners[0].proxies
    assert proxies is not None
    assert (proxies.certificate_header, proxies.certificate_form) == ("client-cert", "rfc9440")


def test_an_mtls_origin_that_nothing_listens_for_is_refused(write: Write) -> None:
    assert problems(write(changed(NO_MTLS[1]))) == [
        "3:11: error: mtls_url is given, but nothing listens for it: add listen.mtls"
    ]


# Secrets


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (SECRET, "upstreams.fhir.authorization is text, expected a reference, {file: …} or {env: …}"),
        (f"[{SECRET}]", "upstreams.fhir.authorization is a list, expected a reference"),
        ("{}", "upstreams.fhir.authorization must have one of 'file' and 'env'"),
        ("{file: token, env: TOKEN}", "upstreams.fhir.authorization must have one of 'file' and 'env'"),
        (f"{{value: {SECRET}}}", "'upstreams.fhir.authorization' has no key 'value'."),
        ("{env: NOWHERE}", "upstreams.fhir.authorization: the variable 'NOWHERE' is not set"),
        ("{env: EMPTY}", "upstreams.fhir.authorization: the variable 'EMPTY' is not set"),
        (
            "{env: LINES}",
            "upstreams.fhir.authorization: the variable 'LINES' holds more than one line of text",
        ),
        ("{env: 5}", "upstreams.fhir.authorization.env is '5', expected the name of a variable"),
        ("{file: nowhere}", "cannot be read as text"),
        ("{file: binary}", "cannot be read as text"),
        ("{file: empty}", "is empty"),
        ("{file: lines}", "holds more than one line of text"),
        ("{file: policies}", "cannot be read as text"),
    ],
)
def test_a_secret_is_a_reference_and_its_value_is_in_no_message(
    write: Write, reference: str, message: str
) -> None:
    path = write(changed(("at: /fhir/r4,", f"at: /fhir/r4, authorization: {reference},")))
    (path.parent / "binary").write_bytes(SECRET.encode() + b"\xff")
    (path.parent / "empty").write_text(" \n")
    (path.parent / "lines").write_text(f"{SECRET}\r\nX-Evil: 1\n")
    found = problems(path, EMPTY="", LINES=f"{SECRET}\nX-Evil: 1", TOKEN=SECRET)
    assert [text for text in found if message in text and text.startswith("10:")], found


def test_a_secret_comes_from_a_file_or_the_environment_without_its_line_end(write: Write) -> None:
    path = write(changed(("at: /fhir/r4,", "at: /fhir/r4, authorization: {env: TOKEN},")))
    assert load(path, {"TOKEN": f"Bearer {SECRET}\n"}).upstreams[0].authorization == f"Bearer {SECRET}"
    path = write(changed(("at: /fhir/r4,", "at: /fhir/r4, authorization: {file: token},")))
    (path.parent / "token").write_text(f"Bearer {SECRET}\n")
    assert load(path, {}).upstreams[0].authorization == f"Bearer {SECRET}"


def test_a_password_in_clear_text_is_refused_and_not_repeated(write: Write) -> None:
    path = write(changed())
    (path.parent / "ann.argon2").write_text(SECRET)
    assert problems(path) == ["13:55: error: password must be an argon2id hash, from `securus user hash`"]
    path = write(changed(("{file: ann.argon2}", SECRET)))
    assert problems(path) == [
        "13:55: error: users[0].password is text, expected a reference, {file: …} or {env: …}"
    ]


@pytest.mark.parametrize("value", [SECRET, "AAAA", "A" * 43 + "!"])
def test_an_encryption_key_of_another_form_is_refused_and_not_repeated(write: Write, value: str) -> None:
    path = write(changed(("{file: encryption.key}", "{env: KEY}")))
    found = problems(path, KEY=value)
    assert len(found) == 1
    assert found[0].startswith("8:19: error: ")
    assert value not in found[0]


def test_a_private_key_among_a_clients_public_keys_is_refused_and_not_repeated(write: Write) -> None:
    path = write(changed())
    key = Key.new()
    numbers: dict[str, Any] = {**key.public, "d": SECRET}
    (path.parent / "portal.jwks").write_text(json.dumps({"keys": [key.public, numbers]}))
    found = problems(path)
    assert len(found) == 1
    assert f"key 1 of '{path.parent / 'portal.jwks'}'" in found[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": 5}',
        '{"keys": []}',
        '{"keys": ["a"]}',
        '{"keys": [{}]}',
        "\xff",
    ],
)
def test_a_key_set_that_is_none_is_refused(write: Write, content: str) -> None:
    path = write(changed())
    (path.parent / "portal.jwks").write_bytes(content.encode("latin-1"))
    found = problems(path)
    assert len(found) == 1
    assert found[0].startswith("21:11: error: ")


# The file itself


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    assert problems(path) == ["1:1: error: cannot be read: No such file or directory"]
    path.write_bytes(b"version: \xff")
    assert problems(path) == ["1:1: error: cannot be read: it is not UTF-8"]
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    assert problems(path) == ["1:1: error: the file is longer than 4194304 bytes"]
    path.write_text("- a\n")
    assert problems(path) == ["1:1: error: the configuration is a list, expected a mapping"]
    path.write_text("")
    assert problems(path) == ["1:1: error: the configuration is nothing, expected a mapping"]
    path.write_text("a: [1\n")
    assert problems(path)[0].startswith("2:1: error: ")


def test_I3_keys_by_url_and_what_may_be_fetched_are_read(write: Write) -> None:
    url = "https://portal.example/jwks.json?v=1"
    allow = "version: 1\nfetch: {allow: [Keys.Lan, 10.1.0.0/24, '::1']}\n"
    settings = load(write(changed(("{file: portal.jwks}", f"{{url: '{url}'}}"), ("version: 1\n", allow))), {})
    assert (settings.clients[0].jwks, settings.clients[0].jwks_uri) == ((), url)
    assert settings.fetch.allow.hosts == {"keys.lan"}
    assert [str(network) for network in settings.fetch.allow.networks] == ["10.1.0.0/24", "::1/128"]


def test_self_signed_certificates_by_url_need_a_proxy_in_front(write: Write) -> None:
    text = changed(
        ("private_key_jwt", "self_signed_tls_client_auth"),
        ("jwks: {file: portal.jwks}", "jwks: {url: https://portal.example/jwks}"),
    )
    (found,) = problems(write(text))
    assert "jwks.url of self_signed_tls_client_auth needs a proxy that ends TLS" in found
    certificate = "client_certificate: {header: Client-Cert, form: rfc9440}"
    behind = f"{{port: 8444, trusted_proxies: {{addresses: [10.0.0.5], {certificate}}}}}"
    old = "{port: 8444, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}"
    assert load(write(text.replace(old, behind)), {}).clients[0].jwks_uri == "https://portal.example/jwks"


PUBLIC = """
  - client_id: chart
    name: Growth chart
    profile: smart-public
    authentication: none
    require_dpop: false
    grants: [authorization_code, refresh_token]
    redirect_uris: [https://chart.example/callback]
    scope: launch/patient patient/*.rs
"""


def smart(profile: str, *changes: tuple[str, str]) -> str:
    """The configuration with one profile of SMART on, and a client of it."""
    text = PUBLIC.replace("smart-public", profile)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    on = f"authorization: {{profiles: [fapi2, {profile}]}}\npolicies: policies"
    return changed(("policies: policies", on)) + text[1:]


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Patient/1", True),
        ("https://fhir.example/r4/Person/p-1", True),
        ("PractitionerRole/1", True),
        ("Organization/1", False),
        ("Practitioner", False),
        ("http://fhir.example/Patient/1", False),
        ("'7'", False),
    ],
)
def test_fhirUser_of_an_account_is_of_a_type_of_people(write: Write, said: str, right: bool) -> None:
    ann = "password: {file: ann.argon2}}\n"
    path = write(changed((ann, f"password: {{file: ann.argon2}}, claims: {{fhirUser: {said}}}}}\n")))
    if right:
        assert load(path, {}).accounts[0].claims == {"fhirUser": said}
    else:
        assert any("claims.fhirUser must be a Patient" in problem for problem in problems(path))


def test_a_client_is_of_a_weaker_profile_where_both_say_so(write: Write, tmp_path: Path) -> None:
    chart = load(write(smart("smart-public")), {}).clients[1]
    assert (chart.profile, chart.binding) == ("smart-public", "none")
    assert load(write(smart("smart-public", ("false", "true"))), {}).clients[1].binding == "dpop"
    assert (
        load(write(smart("smart-public", ("    require_dpop: false\n", ""))), {}).clients[1].binding == "dpop"
    )
    (tmp_path / "secret").write_text("z" * 40 + "\n")
    by_secret = ("authentication: none", "authentication: client_secret_basic\n    secret: {file: secret}")
    found = load(write(smart("smart-symmetric", by_secret)), {}).clients[1]
    assert found.secret_digest == hashlib.sha256(b"z" * 40).digest()
    assert "z" * 40 not in repr(found)
    assert repr(found.secret_digest) not in repr(found)


@pytest.mark.parametrize(
    ("profile", "change", "problem"),
    [
        (
            "smart-public",
            ("refresh_token", "client_credentials"),
            "client_credentials is not for clients of the profile",
        ),
        ("smart-public", ("none", "private_key_jwt"), "authentication is 'private_key_jwt', expected none"),
        (
            "smart-public",
            ("require_dpop: false", "introspection: all"),
            "introspection: all is for clients that",
        ),
        (
            "smart-public",
            ("require_dpop: false", "require_dpop: false\n    binding: mtls"),
            "does not go with binding: mtls",
        ),
        ("smart-public", ("require_dpop", "require_dpopp"), "Did you mean 'require_dpop'?"),
        ("smart-symmetric", ("none", "client_secret_basic"), "secret"),
        (
            "smart-symmetric",
            ("none", "client_secret_basic\n    secret: {file: short}"),
            "secret must have 32 to 256",
        ),
    ],
)
def test_a_weaker_profile_is_no_way_around_what_it_asks_for(
    write: Write, tmp_path: Path, profile: str, change: tuple[str, str], problem: str
) -> None:
    (tmp_path / "short").write_text("short")
    assert any(problem in found for found in problems(write(smart(profile, change))))


def test_a_store_has_the_profile_that_it_names_or_one_in_a_file_of_its_own(write: Write) -> None:
    def profile(said: str) -> UpstreamProfile:
        (upstream,) = load(write(changed(("at: /fhir/r4,", f"{said}at: /fhir/r4,"))), {}).upstreams
        return upstream.profile

    assert profile("") == profile("profile: generic, ") == UpstreamProfile()
    assert profile("profile: hapi, ").page_links == {"base"}
    path = write(changed(("at: /fhir/r4,", "profile: {file: own.yaml}, at: /fhir/r4,")))
    text = (ROOT / "gateway" / "profiles" / "hapi.yaml").read_text(encoding="utf-8")
    (path.parent / "own.yaml").write_text(text, encoding="utf-8")
    assert load(path, {}).upstreams[0].profile == replace(shipped("hapi"), name="own")
    (path.parent / "own.yaml").write_text(text.replace("if_match: s", "if_match: uns"), encoding="utf-8")
    assert not load(path, {}).upstreams[0].profile.if_match
    (path.parent / "own.yaml").write_text(text.replace("self_link: checked", "self_link: x"))
    with pytest.raises(ConfigErrors) as refused:
        load(path, {})
    assert "own.yaml:9:12: error: self_link is 'x', expected checked or unreliable." in str(refused.value)


def test_a_profile_or_a_probe_that_is_none_is_refused(write: Write) -> None:
    path = write(changed(("at: /fhir/r4,", "profile: hapy, probe: maybe, at: /fhir/r4,")))
    found = "\n".join(problems(path))
    assert "upstreams.fhir.profile is 'hapy', expected generic or hapi" in found
    assert "Did you mean 'hapi'?" in found
    assert "upstreams.fhir.probe is 'maybe', expected off or background or required." in found


def test_answers_are_compressed_unless_a_mount_says_otherwise(write: Write) -> None:
    upstream = load(write(changed()), {}).upstreams[0]
    assert (upstream.compress, upstream.ask_gzip) == (True, False)
    said = changed(("at: /fhir/r4,", "compress: false, ask_gzip: true, at: /fhir/r4,"))
    upstream = load(write(said), {}).upstreams[0]
    assert (upstream.compress, upstream.ask_gzip) == (False, True)


def test_bounds_of_connections_are_the_descriptors_until_the_configuration_has_them(write: Write) -> None:
    limits = load(write(CONFIGURATION), {}).limits
    assert (limits.connections, limits.connections_of_address) == (None, None)
    said = "limits: {connections: {all: 500, address: 20}}\n"
    limits = load(write(CONFIGURATION + said), {}).limits
    assert (limits.connections, limits.connections_of_address) == (500, 20)
    limits = load(write(CONFIGURATION + "limits: {connections: {address: 20}}\n"), {}).limits
    assert (limits.connections, limits.connections_of_address) == (None, 20)


def test_limits_are_off_until_the_configuration_has_them(write: Write) -> None:
    limits = load(write(CONFIGURATION), {}).limits
    assert (limits.rates, limits.at_once, limits.lookups) == ({}, {}, 256)


def test_a_rate_is_a_number_and_a_period_with_a_burst_or_shared(write: Write) -> None:
    said = """limits:
  rates:
    address: 50/s
    user: {rate: 600/min, burst: 20}
    client: {rate: 10/h, shared: true}
  at_once: {user: 8}
  lookups: 40
"""
    limits = load(write(CONFIGURATION + said), {}).limits
    assert limits.rates == {
        "address": RequestRate(50, 1, 50, False),
        "user": RequestRate(600, 60, 20, False),
        "client": RequestRate(10, 3600, 10, True),
    }
    assert (limits.at_once, limits.lookups) == ({"user": 8}, 40)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("rates: {adress: 50/s}", "'limits.rates' has no key 'adress'. Did you mean 'address'?"),
        (
            "rates: {address: 50}",
            "limits.rates.address is '50', expected a rate such as 50/s, 600/min or 10/h",
        ),
        (
            "rates: {address: 0/s}",
            "limits.rates.address is '0/s', expected a rate such as 50/s, 600/min or 10/h",
        ),
        ("rates: {user: {burst: 3}}", "limits.rates.user.rate is missing, expected a rate such as"),
        (
            "rates: {user: {rate: 1/s, burst: 3, shared: true}}",
            "limits.rates.user.burst: a shared limit counts whole periods, without burst",
        ),
        ("rates: {user: {rate: 1/s, often: 3}}", "'limits.rates.user' has no key 'often'"),
        ("at_once: {route: 3}", "'limits.at_once' has no key 'route'"),
        ("connections: {adress: 3}", "'limits.connections' has no key 'adress'. Did you mean 'address'?"),
        ("connections: {all: 0}", "limits.connections.all is '0', expected a whole number from 1 to 1000000"),
        (
            "connections: {all: 10, address: 11}",
            "limits.connections.address is 11, more than limits.connections.all (10)",
        ),
        ("at_once: {user: 0}", "limits.at_once.user is '0', expected a whole number from 1 to 1000000"),
        ("lookups: -1", "limits.lookups is '-1', expected a whole number from 0 to 10000"),
    ],
)
def test_a_limit_that_cannot_be_read_is_named(write: Write, said: str, problem: str) -> None:
    (found,) = problems(write(CONFIGURATION + f"limits: {{{said}}}\n"))
    assert problem in found


def test_valkey_may_stand_beside_the_store(write: Write, tmp_path: Path) -> None:
    (tmp_path / "valkey.password").write_text(SECRET)
    said = """storage:
  path: securus.db
  valkey:
    url: valkeys://cache.example:6380/2
    username: securus
    password: {file: valkey.password}
    timeout: 500ms
"""
    storage = load(write(CONFIGURATION + said), {}).storage
    assert storage.valkey == ValkeySettings(
        "valkeys://cache.example:6380/2", "securus", SECRET, timeout_seconds=0.5
    )
    assert SECRET not in repr(storage)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("{url: 'valkey://cache.example'}", "the host cache.example is on a network: valkeys:// protects"),
        ("{url: 'valkey://:SECRET-VALUE-7f3a@127.0.0.1'}", "it holds a user or a password: these have keys"),
        ("{}", "storage.valkey.url is missing, expected an address such as valkeys://"),
        (
            "{url: 'valkey://127.0.0.1', time: 1s}",
            "'storage.valkey' has no key 'time'. Did you mean 'timeout'?",
        ),
        ("{url: 'valkey://127.0.0.1', prefix: 'a b'}", "storage.valkey.prefix is 'a b', expected letters"),
        ("{url: 'valkey://127.0.0.1', password: SECRET-VALUE-7f3a}", "storage.valkey.password is"),
    ],
)
def test_a_valkey_that_cannot_be_used_is_named(write: Write, said: str, problem: str) -> None:
    (found,) = problems(write(CONFIGURATION + f"storage: {{path: securus.db, valkey: {said}}}\n"))
    assert problem in found


def test_the_audit_log_has_its_node_heads_and_retention(write: Write) -> None:
    assert load(write(CONFIGURATION), {}).audit_log == AuditLogSettings()
    heads = "{records: 50, every: 5m, file: heads.jws, notify: [office]}"
    said = f"audit: {{node: ward-a, heads: {heads}, retention: 2190d}}\n"
    path = write("notifications: {office: log}\n" + said + CONFIGURATION)
    assert load(path, {}).audit_log == AuditLogSettings(
        "ward-a", 50, 300, path.parent / "heads.jws", ("office",), 2190 * 86400
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{nodes: a}", "'audit' has no key 'nodes'. Did you mean 'node'?"),
        ("{node: a/b}", "audit.node is 'a/b', expected letters, digits, '.', '_' and '-'"),
        ("{retention: 7d}", "audit.retention is '7d', expected 30d to 40000d"),
        ("{heads: {every: 0s}}", "audit.heads.every is '0s', expected 1s to 1d"),
        ("{heads: {each: 5s}}", "'audit.heads' has no key 'each'"),
        ("{heads: {notify: [ofice]}}", "'ofice' is not under notifications. Did you mean 'office'?"),
    ],
)
def test_what_is_wrong_about_the_audit_log_is_said(write: Write, said: str, why: str) -> None:
    with pytest.raises(ConfigErrors) as refused:
        load(write(f"notifications: {{office: log}}\naudit: {said}\n{CONFIGURATION}"), {})
    assert why in str(refused.value)


def test_audit_feeds_are_read_with_what_their_kind_has(write: Write, tmp_path: Path) -> None:
    text = """\
audit:
  disclosures: {clients: [exchange], organizations: [Organization/other]}
  feeds:
    repository:
      kind: fhir
      url: https://audit.example/fhir/
      authorization: {env: AUDIT}
      certificate: {file: tls.crt}
      key: {file: tls.key}
      begin: oldest
      refuse_writes_after: {records: 10, age: 1h}
    syslog: {kind: syslog, url: "tls://syslog.example:6514", at_once: 7, timeout: 3s}
    archive: {kind: file, path: events.ndjson, max_size: 1MiB, keep: 3}
"""
    found = load(write(CONFIGURATION + text), {"AUDIT": SECRET}).audit
    repository, syslog, archive = found.feeds
    assert (found.disclosed_to, found.organizations) == ({"exchange"}, {"Organization/other"})
    assert (repository.url, repository.authorization) == ("https://audit.example/fhir", SECRET)
    assert SECRET not in repr(repository)
    assert (repository.from_beginning, repository.refuse_after_records, repository.refuse_after) == (
        True,
        10,
        3600,
    )
    assert (syslog.from_beginning, syslog.at_once, syslog.timeout, syslog.refuse_after) == (
        False,
        7,
        3.0,
        None,
    )
    assert (archive.path, archive.max_size, archive.kept) == (tmp_path / "events.ndjson", 1024**2, 3)
