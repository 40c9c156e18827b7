"""The conformance report: every rule can fail, or names the test that shows that the code always holds it."""

import ast
import base64
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

import pytest

from authz.endpoints.discovery import Discovery
from authz.protocol.clients import (
    AuthenticationMethod,
    BindingKind,
    CertificateSubject,
    Client,
    GrantType,
    ProfileName,
)
from authz.settings import AuthorizationSettings, Lifetimes, Protected, RegistrationSettings
from gateway.report import page
from gateway.report.report import CHAPTERS, SERVER, Report, make
from gateway.report.rules.facts import (
    CertificateFacts,
    ClientFacts,
    Facts,
    KeyFacts,
    ListenerFacts,
    PasswordFacts,
    UpstreamFacts,
)
from gateway.report.rules.table import Finding, Rule, Verdict
from tests.support.gateway import ROOT

NOW = 1_800_000_000
ISSUER, MTLS = "https://fhir.example", "https://mtls.fhir.example"
KEY = KeyFacts("EC", 256, kid="k1", use="sig", algorithms=("ES256",))
RULES = [(chapter, rule) for chapter in CHAPTERS for rule in chapter.rules]
IDS = [rule.id for _, rule in RULES]

Change = Callable[[Facts], Facts]


def certificate(**changes: Any) -> CertificateFacts:
    """A certificate of a listener that is good for a year."""
    place = "listen.public.tls.certificate"
    found = CertificateFacts(place, KeyFacts("EC", 256), NOW - 86400, NOW + 365 * 86400, "sha256")
    return dataclasses.replace(found, **changes)


def good_facts() -> Facts:
    """A server and clients of which nothing is to be said."""
    codes = frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN})
    portal = Client(
        client_id="portal",
        name="Portal",
        authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
        scope=("openid", "patient/*.rs"),
        grant_types=codes,
        redirect_uris=("https://portal.example/callback",),
        contact="support@portal.example",
        signed_requests_required=True,
        signed_responses_required=True,
    )
    kiosk = dataclasses.replace(
        portal,
        client_id="kiosk",
        authentication_method=AuthenticationMethod.TLS_CLIENT_AUTH,
        binding=BindingKind.MTLS,
        certificate_subject=CertificateSubject("san_dns", "kiosk.example"),
        signed_requests_required=False,
        signed_responses_required=False,
    )
    settings = AuthorizationSettings(
        issuer=ISSUER, mtls_origin=MTLS, resources=(Protected(f"{ISSUER}/fhir/r4", "/fhir/r4", "fhir-r4"),)
    )
    listeners = tuple(
        ListenerFacts(
            name=name,
            origin=origin,
            tls=True,
            versions=("TLSv1_2", "TLSv1_3"),
            ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",),
            certificates=(certificate(),),
            anchors=(certificate(place="listen.mtls.client_certificate_anchors"),) if name == "mtls" else (),
            sees_client_certificates=name == "mtls",
        )
        for name, origin in (("public", ISSUER), ("mtls", MTLS))
    )
    return Facts(
        now=NOW,
        settings=settings,
        metadata=_metadata(settings),
        grants=frozenset({"authorization_code", "refresh_token", "client_credentials"}),
        listeners=listeners,
        operations_address="127.0.0.1",
        synchronous="normal",
        upstreams=(UpstreamFacts("fhir", "http://127.0.0.1:8080/fhir", True),),
        passwords=(PasswordFacts("users[1].password", 19456, 2),),
        subjects=frozenset({"s1"}),
        clients=(ClientFacts(portal, (KEY,)), ClientFacts(kiosk)),
        jwks=(KEY,),
        jwks_members=frozenset({"kty", "crv", "x", "y", "kid", "use", "alg"}),
    )


def _metadata(settings: AuthorizationSettings) -> Mapping[str, object]:
    class Nobody:
        algorithms = settings.signing_algorithms
        id_token_algorithms = (*settings.signing_algorithms, *settings.id_token_algorithms)

        def jwks(self) -> Mapping[str, object]:
            return {}

    return Discovery(settings, Nobody()).server_metadata()


# How a fact goes wrong


def metadata(**members: object) -> Change:
    """Members of the metadata changed; None takes one away."""

    def change(facts: Facts) -> Facts:
        found = {**facts.metadata, **members}
        return dataclasses.replace(facts, metadata={k: v for k, v in found.items() if v is not None})

    return change


def setting(**changes: Any) -> Change:
    """Settings of the authorization server changed."""
    return lambda facts: dataclasses.replace(facts, settings=dataclasses.replace(facts.settings, **changes))


def lifetime(**seconds: int) -> Change:
    """Lifetimes changed."""
    return setting(lifetimes=dataclasses.replace(Lifetimes(), **seconds))


def fact(**changes: Any) -> Change:
    """Facts changed."""
    return lambda facts: dataclasses.replace(facts, **changes)


def listener(**changes: Any) -> Change:
    """The public listener changed."""
    return lambda facts: dataclasses.replace(
        facts, listeners=(dataclasses.replace(facts.listeners[0], **changes), *facts.listeners[1:])
    )


def client(number: int = 0, keys: tuple[KeyFacts, ...] | None = None, **changes: Any) -> Change:
    """A client changed, or its keys."""

    def change(facts: Facts) -> Facts:
        found = list(facts.clients)
        one = found[number]
        found[number] = ClientFacts(
            dataclasses.replace(one.client, **changes), one.keys if keys is None else keys, one.certificates
        )
        return dataclasses.replace(facts, clients=tuple(found))

    return change


def client_certificate(facts: Facts) -> Facts:
    """A client whose registered certificate has expired."""
    old = certificate(place="clients[portal].jwks", not_after=NOW - 86400)
    found = dataclasses.replace(facts.clients[0], certificates=(old,))
    return dataclasses.replace(facts, clients=(found, *facts.clients[1:]))


def blind(facts: Facts) -> Facts:
    """No listener sees certificates of clients."""
    unseeing = tuple(dataclasses.replace(found, sees_client_certificates=False) for found in facts.listeners)
    return dataclasses.replace(facts, listeners=unseeing)


PUBLIC_CLIENT = client(authentication_method=AuthenticationMethod.NONE)
SECRET_CLIENT = client(authentication_method=AuthenticationMethod.CLIENT_SECRET_BASIC)
SHORT = dataclasses.replace(KEY, kind="RSA", bits=1024, algorithms=())
OTHER_PROFILE = setting(profiles=frozenset({ProfileName.FAPI2, ProfileName.SMART_PUBLIC}))
ASYMMETRIC = setting(profiles=frozenset({ProfileName.FAPI2, ProfileName.SMART_ASYMMETRIC}))
HTTP = client(redirect_uris=("http://portal.example/callback",))
LOOPBACK = client(redirect_uris=("http://127.0.0.1:4711/callback",))
BAD_REDIRECT = client(redirect_uris=("https://*.portal.example/callback",))
WIDE = client(scope=("system/*.cruds",))
SAME_NAME = fact(subjects=frozenset({"portal"}))
PLAIN = listener(tls=False, proxies=())
PASSWORD = fact(grants=frozenset({"password"}))
NO_ISSUER = metadata(authorization_response_iss_parameter_supported=None)
IMPLICIT = metadata(response_types_supported=["code", "token"])
ANONYMOUS = client(contact=None, policy_url=None)
LONG_TOKENS = lifetime(access_token=3601)
ENDLESS = lifetime(refresh_token=401 * 86400)
RS256 = ["RS256"]

WRONG: dict[str, Change] = {
    "bcp-2-1": client(profile=ProfileName.SMART_SYMMETRIC),
    "fapi2-5.2.1-1": PLAIN,
    "fapi2-5.2.1-2": listener(versions=("TLSv1_1", "TLSv1_2")),
    "fapi2-5.2.1-3": listener(certificates=(certificate(signature_hash="sha1"),)),
    "fapi2-5.2.1-4": listener(certificates=(certificate(not_after=NOW),)),
    "fapi2-5.2.1-5": fact(upstreams=(UpstreamFacts("fhir", "http://hapi:8080/fhir", False),)),
    "fapi2-5.2.2-1": listener(ciphers=("ECDHE-RSA-AES128-SHA",)),
    "fapi2-5.3.2.1-1": metadata(token_endpoint="https://elsewhere.example/token"),
    "fapi2-5.3.2.1-2": PASSWORD,
    "fapi2-5.3.2.1-3": PUBLIC_CLIENT,
    "fapi2-5.3.2.1-4": OTHER_PROFILE,
    "fapi2-5.3.2.1-5": metadata(
        dpop_signing_alg_values_supported=None, tls_client_certificate_bound_access_tokens=False
    ),
    "fapi2-5.3.2.1-6": blind,
    "fapi2-5.3.2.1-7": metadata(token_endpoint_auth_methods_supported=["client_secret_basic"]),
    "fapi2-5.3.2.1-8": SECRET_CLIENT,
    "fapi2-5.3.2.1-9": client(keys=()),
    "fapi2-5.3.2.1-10": metadata(
        mtls_endpoint_aliases={
            "token_endpoint": f"{MTLS}/token",
            "authorization_endpoint": f"{MTLS}/authorize",
        }
    ),
    "fapi2-5.3.2.1-12": ASYMMETRIC,
    "fapi2-5.3.2.1-13": setting(rotate_refresh_tokens=True),
    "fapi2-5.3.2.1-14": setting(dpop_nonce_required=False),
    "fapi2-5.3.2.1-15": lifetime(code=61),
    "fapi2-5.3.2.1-18": WIDE,
    "fapi2-5.3.2.2-1": IMPLICIT,
    "fapi2-5.3.2.2-2": metadata(pushed_authorization_request_endpoint=None),
    "fapi2-5.3.2.2-3": OTHER_PROFILE,
    "fapi2-5.3.2.2-4": metadata(require_pushed_authorization_requests=False),
    "fapi2-5.3.2.2-6": metadata(code_challenge_methods_supported=["S256", "plain"]),
    "fapi2-5.3.2.2-8": NO_ISSUER,
    "fapi2-5.3.2.2-9": HTTP,
    "fapi2-5.3.2.2-12": lifetime(pushed_request=600),
    "fapi2-5.3.2.2-14": ANONYMOUS,
    "fapi2-5.3.2.3-1": metadata(userinfo_endpoint=None),
    "fapi2-5.4.1-2": metadata(dpop_signing_alg_values_supported=RS256),
    "fapi2-5.4.1-3": client(keys=(dataclasses.replace(KEY, algorithms=()),)),
    "fapi2-5.4.1-4": metadata(request_object_signing_alg_values_supported=["ES256", "none"]),
    "fapi2-5.4.1-5": fact(jwks=(SHORT,)),
    "fapi2-5.4.1-6": client(keys=(SHORT,)),
    "fapi2-5.4.2-1": metadata(jwks_uri="http://fhir.example/jwks"),
    "fapi2-5.4.3-1": fact(jwks=(KEY, KEY)),
    "fapi2-5.4.3-2": client(keys=(KEY, KEY)),
    "fapi2-5.4.3-3": client_certificate,
    "fapi2-6.1-1": LONG_TOKENS,
    "fapi2-6.2-2": lifetime(dpop_proof=61),
    "fapi2-6.2-3": lifetime(dpop_nonce=601),
    "fapi2-6.2-4": setting(dpop_nonce_required=False),
    "fapi2-6.5-1": SAME_NAME,
    "signing-5.3.1-1": metadata(request_parameter_supported=False),
    "signing-5.3.1-2": metadata(request_object_signing_alg_values_supported=RS256),
    "signing-5.3.1-3": metadata(request_uri_parameter_supported=True),
    "signing-5.3.1-6": client(keys=()),
    "signing-5.4.1-1": metadata(response_modes_supported=["query"]),
    "signing-5.4.1-2": metadata(authorization_signing_alg_values_supported=RS256),
    "signing-5.4.1-4": client(signed_responses_required=False),
    "signing-5.5.1-1": metadata(introspection_endpoint=None),
    "signing-5.5.1-2": metadata(introspection_signing_alg_values_supported=RS256),
    "signing-5.5.1-4": client(may_introspect=True),
    "oauth21-1.4.3-1": blind,
    "oauth21-1.5-1": PLAIN,
    "oauth21-2.3-1": BAD_REDIRECT,
    "oauth21-2.4-1": client(1, certificate_subject=None),
    "oauth21-2.4-2": SECRET_CLIENT,
    "oauth21-4.1-1": IMPLICIT,
    "oauth21-4.1-2": PASSWORD,
    "oauth21-4.1.1-1": metadata(code_challenge_methods_supported=["plain"]),
    "oauth21-4.1.2-1": lifetime(code=601),
    "oauth21-4.1.2-2": NO_ISSUER,
    "oauth21-4.3-1": client(authentication_method=AuthenticationMethod.NONE, binding=BindingKind.MTLS),
    "oauth21-4.3-2": ENDLESS,
    "oauth21-7.1.3-1": LONG_TOKENS,
    "oauth21-7.1.4-1": setting(resources=()),
    "oauth21-7.1.4-2": WIDE,
    "oauth21-7.4-1": SAME_NAME,
    "oauth21-7.7-1": setting(sign_in_attempts_per_minute=61),
    "oauth21-7.7-2": fact(passwords=(PasswordFacts("users[1].password", 19455, 2),)),
    "oauth21-7.9-1": ANONYMOUS,
    "oauth21-8.4.2-1": LOOPBACK,
    "oauth21-8.4.3-1": client(redirect_uris=("com.example.app:/callback",)),
    "bcp-2.1-1": BAD_REDIRECT,
    "bcp-2.1-3": NO_ISSUER,
    "bcp-2.1.1-2": metadata(code_challenge_methods_supported=None),
    "bcp-2.1.2-1": IMPLICIT,
    "bcp-2.2.1-1": OTHER_PROFILE,
    "bcp-2.2.1-2": blind,
    "bcp-2.2.2-1": client(authentication_method=AuthenticationMethod.NONE, binding=BindingKind.MTLS),
    "bcp-2.3-1": setting(resources=()),
    "bcp-2.3-2": WIDE,
    "bcp-2.3-3": metadata(scopes_supported=["system/*.cruds"]),
    "bcp-2.4-1": PASSWORD,
    "bcp-2.5-1": PUBLIC_CLIENT,
    "bcp-2.6-1": metadata(authorization_endpoint=None),
    "bcp-2.6-2": setting(mtls_origin="http://mtls.fhir.example"),
    "bcp-2.6-4": HTTP,
    "bcp-4.1.3-1": LOOPBACK,
    "bcp-4.13-1": listener(tls=False, proxies=("0.0.0.0/0",)),
    "bcp-4.13-2": fact(operations_address="0.0.0.0"),
    "bcp-4.14.2-1": ENDLESS,
    "bcp-4.11.2-1": setting(registration=RegistrationSettings(enabled=True, automatic=True)),
    "bcp-4.15-1": SAME_NAME,
}
"""rule → what makes it fail or warn."""

# What else a check looks at, by rule and the words that it answers with.
FURTHER: list[tuple[str, Change, Verdict, str]] = [
    ("fapi2-5.2.1-1", setting(issuer="http://fhir.example"), Verdict.FAIL, "is not https"),
    ("fapi2-5.2.1-1", listener(tls=False, proxies=("10.0.0.0/29",)), Verdict.PASS, "at a proxy"),
    ("fapi2-5.2.1-2", listener(problem="its files cannot be used"), Verdict.FAIL, "cannot be used"),
    ("fapi2-5.2.1-2", fact(listeners=()), Verdict.NOT_APPLICABLE, "at a proxy"),
    ("fapi2-5.2.2-1", fact(listeners=()), Verdict.NOT_APPLICABLE, "at a proxy"),
    ("fapi2-5.2.1-3", fact(listeners=()), Verdict.NOT_APPLICABLE, "at a proxy"),
    ("fapi2-5.2.1-4", fact(listeners=()), Verdict.NOT_APPLICABLE, "at a proxy"),
    ("fapi2-5.2.1-3", listener(certificates=(certificate(key=KeyFacts("RSA", 1024)),)), Verdict.FAIL, "1024 bits"),
    ("fapi2-5.2.1-3", listener(certificates=(certificate(key=KeyFacts("?", 0)),)), Verdict.FAIL, "0 bits"),
    ("fapi2-5.2.1-4", listener(certificates=(certificate(not_after=NOW + 29 * 86400),)), Verdict.WARN, "29 days"),
    ("fapi2-5.2.1-4", listener(certificates=(certificate(not_before=NOW + 60),)), Verdict.FAIL, "not valid yet"),
    ("fapi2-5.2.1-5", fact(upstreams=(UpstreamFacts("f", "https://s", False),)), Verdict.PASS, "https"),
    ("fapi2-5.3.2.1-4", setting(profiles=frozenset()), Verdict.NOT_APPLICABLE, "switched off"),
    ("fapi2-5.3.2.1-9", client(1, certificate_subject=None), Verdict.FAIL, "no certificate subject"),
    ("fapi2-5.3.2.1-9", fact(listeners=()), Verdict.FAIL, "no authority"),
    ("fapi2-5.3.2.1-9", client(1, authentication_method=AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH),
     Verdict.FAIL, "no certificate of the client"),
    ("fapi2-5.3.2.1-10", setting(mtls_origin=None), Verdict.NOT_APPLICABLE, "no mutual-TLS listener"),
    ("fapi2-5.3.2.1-10", metadata(mtls_endpoint_aliases=None), Verdict.FAIL, "no token_endpoint"),
    ("fapi2-5.3.2.1-10", metadata(mtls_endpoint_aliases={"token_endpoint": f"{ISSUER}/token"}), Verdict.FAIL, "not at"),
    ("fapi2-5.3.2.1-13", setting(rotate_refresh_tokens=True, lifetimes=Lifetimes(refresh_grace=29)), Verdict.FAIL,
     "29 s of grace"),
    ("fapi2-5.3.2.2-4", OTHER_PROFILE, Verdict.FAIL, "expected false"),
    ("fapi2-5.3.2.2-12", lifetime(pushed_request=301), Verdict.WARN, "300 s or less"),
    ("fapi2-5.3.2.2-14", client(name=""), Verdict.FAIL, "no name"),
    ("fapi2-5.4.1-2", setting(signing_algorithms=("RS256",)), Verdict.FAIL, "RS256"),
    ("fapi2-5.4.1-3", client(keys=(KEY, dataclasses.replace(KEY, algorithms=()))), Verdict.WARN, "k1"),
    ("fapi2-5.4.1-5", fact(jwks=None), Verdict.NOT_APPLICABLE, "GET /report"),
    ("fapi2-5.4.1-5", fact(jwks_members=frozenset({"d"})), Verdict.FAIL, "hold d"),
    ("fapi2-5.4.3-1", fact(jwks=None), Verdict.NOT_APPLICABLE, "GET /report"),
    ("fapi2-5.4.3-1", fact(jwks=(dataclasses.replace(KEY, use=None),)), Verdict.FAIL, "use sig"),
    ("fapi2-5.4.3-2", client(keys=(KEY, dataclasses.replace(KEY, kid=None))), Verdict.WARN, "no kid"),
    ("fapi2-6.2-4", fact(synchronous="full"), Verdict.PASS, "full"),
    ("fapi2-6.2-4", fact(synchronous="postgresql"), Verdict.PASS, "commits before it answers"),
    ("fapi2-6.1-1", lifetime(access_token=901), Verdict.WARN, "900 s or less"),
    ("signing-5.3.1-6", client(signed_requests_required=False), Verdict.WARN, "has both"),
    ("oauth21-7.7-1", setting(sign_in_attempts_per_minute=21), Verdict.WARN, "are many"),
    ("oauth21-7.7-2", fact(passwords=(PasswordFacts("users[1].password", 0, 0),)), Verdict.FAIL, "opens anything"),
    ("oauth21-7.7-2", fact(passwords=()), Verdict.NOT_APPLICABLE, "no local accounts"),
    ("oauth21-7.1.4-2", client(scope=("system/*.rs",)), Verdict.WARN, "without a person"),
    ("oauth21-2.3-1", client(redirect_uris=()), Verdict.FAIL, "no address"),
    ("oauth21-8.4.3-1", client(redirect_uris=()), Verdict.NOT_APPLICABLE, "no redirect URI"),
    ("fapi2-5.3.2.1-3", client(profile=ProfileName.SMART_PUBLIC), Verdict.NOT_APPLICABLE, "smart-public"),
    ("oauth21-1.4.3-1", client(binding=BindingKind.NONE), Verdict.WARN, "unbound"),
    ("bcp-2-1", client(profile=ProfileName.SMART_ASYMMETRIC), Verdict.WARN, "may be the token endpoint"),
    ("bcp-2-1", client(profile=ProfileName.SMART_PUBLIC), Verdict.WARN, "does not authenticate"),
    ("bcp-2.5-1", SECRET_CLIENT, Verdict.WARN, "shared secret"),
]  # fmt: skip


@cache
def functions_in(path: str) -> frozenset[str]:
    """The names of the functions of a file of tests."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def findings(rule_id: str, facts: Facts) -> list[Finding]:
    """What the report says of a rule, for each subject."""
    return [row.finding for row in make(facts).rows if row.rule.id == rule_id]


def test_every_rule_has_an_id_of_its_own() -> None:
    assert len(set(IDS)) == len(IDS)
    assert all(re.fullmatch(r"(fapi2|signing|oauth21|bcp)-[0-9.]+-[0-9]+", found) for found in IDS)


@pytest.mark.parametrize("rule", [rule for _, rule in RULES], ids=IDS)
def test_a_rule_is_looked_at_or_held_by_a_test_or_outside(rule: Rule) -> None:
    ways = [rule.server is not None, rule.client is not None, bool(rule.held_by), bool(rule.outside)]
    assert sum(ways) == 1
    assert bool(rule.module) == bool(rule.held_by)
    assert (rule.id in WRONG) == (rule.server is not None or rule.client is not None)


@pytest.mark.parametrize("rule", [rule for _, rule in RULES if rule.held_by], ids=lambda rule: rule.id)
def test_what_cannot_fail_names_code_and_a_test_that_exist(rule: Rule) -> None:
    path, _, name = rule.held_by.partition("::")
    assert name.startswith("test_")
    assert name in functions_in(path)
    assert find_spec(rule.module) is not None


def test_weaker_profiles_that_are_switched_on_are_warned_of_and_end_no_service() -> None:
    facts = setting(profiles=frozenset(ProfileName))(good_facts())
    report = make(dataclasses.replace(facts, metadata=_metadata(facts.settings)))
    assert report.failures == ()
    warnings = " ".join(row.finding.why for row in report.rows if row.finding.verdict is Verdict.WARN)
    for name in ("smart-public", "smart-symmetric", "smart-asymmetric", "client_secret_basic", "RS384"):
        assert name in warnings


def test_of_a_good_server_nothing_is_to_be_said() -> None:
    report = make(good_facts())
    pressing = [r.as_json() for r in report.rows if r.finding.verdict in (Verdict.FAIL, Verdict.WARN)]
    assert pressing == []
    assert report.count(Verdict.PASS) > 100


@pytest.mark.parametrize("rule_id", [rule_id for rule_id in IDS if rule_id in WRONG])
def test_every_rule_can_fail_and_says_what_to_change(rule_id: str) -> None:
    assert not any(f.verdict in (Verdict.FAIL, Verdict.WARN) for f in findings(rule_id, good_facts()))
    found = findings(rule_id, WRONG[rule_id](good_facts()))
    wrong = [f for f in found if f.verdict in (Verdict.FAIL, Verdict.WARN)]
    assert wrong, found
    assert all(f.why for f in wrong)


def test_no_change_is_left_over() -> None:
    assert set(WRONG) <= set(IDS)
    assert {rule_id for rule_id, *_ in FURTHER} <= set(IDS)


@pytest.mark.parametrize(("rule_id", "change", "verdict", "words"), FURTHER)
def test_a_rule_tells_the_smallest_difference(
    rule_id: str, change: Change, verdict: Verdict, words: str
) -> None:
    found = [f for f in findings(rule_id, change(good_facts())) if f.verdict is verdict]
    assert any(words in f.why for f in found), findings(rule_id, change(good_facts()))


def test_the_setting_of_a_client_names_the_client() -> None:
    (found,) = [f for f in findings("fapi2-5.3.2.2-9", HTTP(good_facts())) if f.verdict is Verdict.FAIL]
    assert found.setting == "clients[portal].redirect_uris"


def test_only_a_declared_profile_stands_in_the_way_of_readiness() -> None:
    report = make(client(redirect_uris=("http://portal.example/callback",))(good_facts()))
    assert {row.rule.id for row in report.unmet} == {"fapi2-5.3.2.2-9"}
    assert {row.rule.id for row in report.failures} > {"fapi2-5.3.2.2-9"}


def test_without_clients_their_rules_do_not_apply() -> None:
    rows = [row for row in make(fact(clients=())(good_facts())).rows if row.rule.client is not None]
    assert {row.subject for row in rows} == {SERVER}
    assert {row.finding.verdict for row in rows} == {Verdict.NOT_APPLICABLE}


def test_the_report_is_text_and_JSON_with_the_same_rows() -> None:
    report = make(HTTP(good_facts()))
    value = json.loads(json.dumps(report.as_json()))
    assert not value["met"]
    assert sum(value["counts"].values()) == len(value["rows"]) == len(report.rows)
    lines = [line for line in report.lines() if re.match(r"(pass|warn|fail|not applicable) ", line)]
    assert len(lines) == len(report.rows)
    assert sum(line.startswith("fail") for line in lines) == len(report.failures)


def test_the_page_shows_every_row_and_nothing_of_it_is_markup() -> None:
    report: Report = make(client(name="<b>Portal</b>", client_id="<i>portal")(good_facts()))
    text = page.page(report)
    assert "<i>" not in text
    assert "<b>" not in text
    assert text.count("<script") == 0
    pressing = report.count(Verdict.FAIL) + report.count(Verdict.WARN)
    assert text.count('<th scope="row">') == len(report.rows) + pressing
    assert text.startswith("<!doctype html>")
    assert '<html lang="en">' in text


def test_the_style_of_the_page_is_the_one_that_its_policy_allows() -> None:
    style = re.search(r"<style>(.*?)</style>", page.page(make(good_facts())), re.S)
    assert style is not None
    digest = base64.b64encode(sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.HEADERS["Content-Security-Policy"]
    assert "script" not in page.HEADERS["Content-Security-Policy"]
