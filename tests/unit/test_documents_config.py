"""`documents` of an upstream: services of documents of every kind are configured, or refused where the mistake is."""

from pathlib import Path

import pytest

from gateway.config.documents import read_documents
from gateway.config.schema import Section
from gateway.document_settings import DocumentSettings, PatientLookup
from gateway.xds_settings import CLAIMS, AssertionSettings, CodedValue, ProvideSettings, SoapTls
from gateway.yaml_source import Mapping, Problem, parse

LEAST = "patients: fhir, assigning_authority: 1.2.3, repositories: {1.2.4: 'https://r.lan/x'}"
CODES = ", ".join(
    f"{word}: {{code: a, system: 1.2.0}}" for word in ("class", "format", "facility", "practice")
)


def read(text: str, kind: str, folder: Path) -> tuple[DocumentSettings | None, list[str]]:
    problems: list[Problem] = []
    node = parse(f"documents: {{{text}}}\n" if text else "kind: x\n", "g.yaml")
    assert isinstance(node, Mapping)
    section = Section(node, "upstreams.d", problems, folder, {})
    return read_documents(section, kind), [str(problem) for problem in problems]


def test_a_registry_with_all_that_can_be_said_of_it(tmp_path: Path) -> None:
    for name in ("a.key", "a.pem"):
        (tmp_path / name).touch()
    pair = "key: {file: a.key}, certificate: {file: a.pem}"
    settings, problems = read(
        f"{LEAST}, patient_lookup: pix, home_community: 1.2.9, tls: {{{pair}, authorities: {{file: a.pem}}}}, "
        f"assertion: {{issuer: i, audience: a, {pair}, lifetime: 1m, purpose: TREAT, claims: {{role: groups}}}}, "
        f"provide: {{url: 'https://r.lan/p', source: 1.2.5, {CODES}}}",
        "xds",
        tmp_path,
    )
    assert problems == []
    assert settings is not None
    xds = settings.xds
    assert xds is not None
    assert (settings.patients, settings.lookup) == ("fhir", PatientLookup.PIX)
    assert (xds.assigning_authority, xds.home) == ("1.2.3", "urn:oid:1.2.9")
    assert xds.repositories == {"1.2.4": "https://r.lan/x"}
    key, certificate = tmp_path / "a.key", tmp_path / "a.pem"
    claims = {**CLAIMS, "role": "groups"}
    assert xds.assertion == AssertionSettings("i", "a", key, certificate, 60, purpose="TREAT", claims=claims)
    codes = dict.fromkeys(("class", "format", "facility", "practice"), CodedValue("a", "1.2.0", "a"))
    assert xds.provide == ProvideSettings("https://r.lan/p", "1.2.5", codes)
    assert xds.tls == SoapTls(certificate, key, certificate)


def test_an_mhd_service_may_know_its_own_patients(tmp_path: Path) -> None:
    assert read("", "mhd", tmp_path) == (None, [])
    assert read("patients: fhir", "mhd", tmp_path) == (DocumentSettings("fhir"), [])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("fhir-r4", "patients: fhir", "is for a mount of documents"),
        ("cda-rest", "", "upstreams.d.documents is missing"),
        ("cda-rest", "patients: fhir, assigning_authority: 1.2.3", "has no key 'assigning_authority'"),
        ("mhd", "patients: fhir, path: '/{id}'", "has no key 'path'"),
        ("mhd", "patient: fhir", "Did you mean 'patients'?"),
        ("xds", "", "upstreams.d.documents is missing"),
        ("xds", LEAST.replace("1.2.3", "1.02.3"), "has '1.02.3', expected an OID"),
        ("xds", LEAST.replace("1.2.4", "repository"), "has 'repository', expected an OID"),
        ("xds", LEAST.replace("https", "ftp"), "expected a URL of http or https"),
        ("xds", "patients: fhir, assigning_authority: 1.2.3", "documents.repositories is missing"),
        ("xds", f"{LEAST}, home_community: here", "home_community must be an OID"),
        ("xds", f"{LEAST}, assertion: {{issuer: i, audience: a}}", "assertion.key is missing"),
        ("xds", f"{LEAST}, assertion: {{claims: {{roles: x}}}}", "Did you mean 'role'?"),
        ("xds", f"{LEAST}, provide: {{url: 'https://r/p', source: 1.2.5}}", "provide.class is missing"),
        ("xds", f"{LEAST}, provide: {{url: 'https://r/p', source: x, {CODES}}}", "has 'x', expected an OID"),
        ("xds", f"{LEAST}, tls: {{certificate: {{file: nowhere.pem}}}}", "there is no file"),
    ],
)
def test_a_mistake_is_found_at_its_place(tmp_path: Path, kind: str, text: str, message: str) -> None:
    _, problems = read(text, kind, tmp_path)
    assert any(message in problem for problem in problems), problems
