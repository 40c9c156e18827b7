"""The section `registration` of gateway.yaml, and what the file's own clients share with those that register."""

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authz.protocol.clients import ProfileName
from authz.settings import RegistrationSettings
from gateway.config.document import ConfigErrors, load
from tests.support.jose import distinguished_name, ec_key, make_certificate, public_jwk
from tests.unit.test_config import CONFIGURATION, Write, write

__all__ = ["write"]  # the fixture

ISSUER = "https://directory.example"
ENABLED = f"""
registration:
  enabled: true
  approval: automatic
  statement_issuers:
    {ISSUER}: {{file: directory.jwks}}
"""


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_without_the_section_and_without_its_keys_nobody_can_register(write: Write) -> None:
    for text in ("", "registration: {}\n", "registration: {approval: manual}\n"):
        assert load(write(CONFIGURATION + text), {}).authorization.registration == RegistrationSettings()


def test_the_section_is_read_with_the_keys_of_the_issuers(write: Write) -> None:
    path, key = write(CONFIGURATION + ENABLED), public_jwk(ec_key(), kid="d1")
    (path.parent / "directory.jwks").write_text(json.dumps({"keys": [key]}))
    assert load(path, {}).authorization.registration == RegistrationSettings(True, True, {ISSUER: (key,)})


def test_profiles_that_are_switched_on_may_be_opened_for_registration(write: Write) -> None:
    on = "authorization: {profiles: [fapi2, smart-public]}\n"
    text = f"{CONFIGURATION}{on}registration: {{profiles: [smart-public], require_dpop: false}}\n"
    found = load(write(text), {}).authorization.registration
    assert found == RegistrationSettings(profiles=frozenset({ProfileName.SMART_PUBLIC}), require_dpop=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("enabled: yes please", "registration.enabled is 'yes please', expected true or false"),
        ("approval: automatik", "expected manual or automatic. Did you mean 'automatic'?"),
        ("aproval: manual", "'registration' has no key 'aproval'. Did you mean 'approval'?"),
        ("statement_issuers: [a]", "registration.statement_issuers is a list, expected a mapping"),
        (f"statement_issuers: {{'{ISSUER}': keys.json}}", "expected"),
        (f"statement_issuers: {{'{ISSUER}': {{file: absent.jwks}}}}", "there is no file"),
        (f"statement_issuers: {{'{ISSUER}': {{file: tls.crt}}}}", "does not hold a JWK Set"),
        ("profiles: [smart-publik]", "there is no profile 'smart-publik'. Did you mean 'smart-public'?"),
        ("profiles: [smart-public]", "'smart-public' is not switched on in authorization.profiles"),
        ("require_dpop: maybe", "registration.require_dpop is 'maybe', expected true or false"),
    ],
)
def test_a_mistake_in_the_section_is_told_at_its_place(write: Write, wrong: str, said: str) -> None:
    (found,) = problems(write(f"{CONFIGURATION}registration:\n  {wrong}\n"))
    line = CONFIGURATION.count("\n") + 2
    assert found.startswith(f"{line}:")
    assert said in found


def test_an_issuer_without_a_key_for_signatures_is_refused(write: Write) -> None:
    path = write(CONFIGURATION + ENABLED)
    (path.parent / "directory.jwks").write_text(json.dumps({"keys": [public_jwk(ec_key(), use="enc")]}))
    (found,) = problems(path)
    assert found.endswith("holds no key for checking signatures")


def test_no_store_can_stand_where_the_registry_is(write: Write) -> None:
    found = problems(write(CONFIGURATION.replace("at: /fhir/r4", "at: /register")))
    assert any("/register" in problem for problem in found)


@pytest.mark.parametrize("authority", [True, False])
def test_SEC29_a_self_signed_certificate_that_is_an_authority_is_refused(
    write: Write, authority: bool
) -> None:
    key, name = ec_key(), distinguished_name(("common_name", "client"))
    extensions = [(x509.BasicConstraints(ca=authority, path_length=None), True)]
    der = make_certificate(key, name, name, key, extensions=extensions).public_bytes(Encoding.DER)
    path = write(CONFIGURATION.replace("private_key_jwt", "self_signed_tls_client_auth"))
    jwk = public_jwk(key, x5c=[base64.b64encode(der).decode("ascii")])
    (path.parent / "portal.jwks").write_text(json.dumps({"keys": [jwk]}))
    if authority:
        (found,) = problems(path)
        assert "CA:TRUE" in found
    else:
        assert load(path, {}).clients[0].jwks == (jwk,)
