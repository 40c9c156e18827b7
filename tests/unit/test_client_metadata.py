"""The document that an application registers with: every rule once kept and once broken, and hostile documents."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.protocol.client_metadata import METADATA, ClientMetadata, RegistrationRules, read_metadata
from authz.protocol.client_profiles import PROFILES
from authz.protocol.client_updates import exceeds
from authz.protocol.clients import (
    AuthenticationMethod,
    BindingKind,
    CertificateSubject,
    GrantType,
    ProfileName,
    SubjectType,
)
from authz.protocol.errors import ErrorCode, OAuthError
from tests.support.jose import (
    ABSENT,
    distinguished_name,
    ec_key,
    make_certificate,
    private_jwk,
    public_jwk,
    rsa_key,
    self_signed_certificate,
)

RULES = RegistrationRules(
    PROFILES[ProfileName.FAPI2], certificates_accepted=True, signing_algorithms=("ES256",)
)
KEY = ec_key()
BASIC: dict[str, Any] = {
    "client_name": "Ärzte-App",
    "redirect_uris": ["https://app.example/callback?a=b"],
    "token_endpoint_auth_method": "private_key_jwt",
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": "openid offline_access patient/*.rs",
    "jwks": {"keys": [public_jwk(KEY, kid="k1")]},
    "dpop_bound_access_tokens": True,
}


def document(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (BASIC | changes).items() if value is not ABSENT}


def jwks(*keys: Any) -> dict[str, Any]:
    return {"keys": list(keys)}


def certified(**parts: Any) -> dict[str, Any]:
    """A key with a certificate of its own, of these extensions."""
    name = distinguished_name(("common_name", "client"))
    certificate = make_certificate(KEY, name, name, KEY, **parts)
    der = certificate.public_bytes(Encoding.DER)
    return public_jwk(KEY, x5c=[base64.b64encode(der).decode()])


SELF_SIGNED = {
    "token_endpoint_auth_method": "self_signed_tls_client_auth",
    "jwks": jwks(public_jwk(KEY, x5c=[base64.b64encode(self_signed_certificate(KEY)).decode()])),
}
BY_CA = {
    "token_endpoint_auth_method": "tls_client_auth",
    "tls_client_auth_san_dns": "app.example",
    "jwks": ABSENT,
}
BACKEND = {
    "grant_types": ["client_credentials"],
    "redirect_uris": ABSENT,
    "scope": "system/Observation.rs",
}


def test_a_document_becomes_a_client_and_the_document_that_is_told() -> None:
    given = document(
        contacts=["ops@app.example"],
        client_uri="https://app.example/",
        policy_uri="https://app.example/policy",
        require_signed_request_object=True,
        authorization_signed_response_alg="ES256",
        subject_type="pairwise",
        software_id="s",
        software_version="2",
        post_logout_redirect_uris=["https://app.example/out"],
        token_endpoint_auth_signing_alg="ES256",
    )
    metadata = read_metadata(given, RULES)
    client = metadata.client("id")
    assert (client.client_id, client.name, client.contact) == ("id", "Ärzte-App", "ops@app.example")
    assert client.authentication_method is AuthenticationMethod.PRIVATE_KEY_JWT
    assert client.grant_types == {GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN}
    assert client.scope == ("openid", "offline_access", "patient/*.rs")
    assert client.binding is BindingKind.DPOP
    assert client.signed_requests_required
    assert client.signed_responses_required
    assert client.subject_type is SubjectType.PAIRWISE
    assert client.policy_url == "https://app.example/policy"
    assert client.jwks == (public_jwk(KEY, kid="k1"),)
    assert client.assertion_algorithm == "ES256"
    assert dict(metadata.document) == given | {
        "application_type": "web",
        "response_types": ["code"],
        "require_pushed_authorization_requests": True,
    }


@pytest.mark.parametrize(
    "name",
    [
        "id_token_signed_response_alg", "authorization_signed_response_alg", "userinfo_signed_response_alg",
        "introspection_signed_response_alg",
    ],
)  # fmt: skip
def test_a_client_chooses_one_of_our_algorithms_for_what_is_signed_for_it(name: str) -> None:
    rules = replace(RULES, signing_algorithms=("ES256", "PS256"))
    client = read_metadata(document(**{name: "PS256"}), rules).client("id")
    assert client.signed_response_algorithm == "PS256"
    assert client.signed_responses_required is (name == "authorization_signed_response_alg")
    assert client.signed_userinfo_required is (name == "userinfo_signed_response_alg")
    assert read_metadata(document(), rules).client("id").signed_response_algorithm is None


OF_ENCRYPTION = (
    {"kty": "EC", "crv": "P-521", "x": "x", "y": "y", "use": "enc", "kid": "e1"},
    {"kty": "OKP", "crv": "X25519", "x": "x", "use": "enc", "alg": "ECDH-ES", "kid": "e1"},
    {"kty": "unheard-of", "use": "enc", "kid": "e1"},
)


@pytest.mark.parametrize("key", OF_ENCRYPTION, ids=lambda key: str(key["kty"]))
def test_RFC7517_5_a_key_that_is_for_encryption_may_be_of_any_kind(key: dict[str, Any]) -> None:
    keys = jwks(public_jwk(KEY, kid="s1"), key)
    assert read_metadata(document(jwks=keys), RULES).document["jwks"] == keys


@pytest.mark.parametrize("key", OF_ENCRYPTION, ids=lambda key: str(key["kty"]))
def test_RFC7517_5_a_key_that_is_for_encryption_is_public_and_named_once_all_the_same(
    key: dict[str, Any],
) -> None:
    signing = public_jwk(KEY, kid="s1")
    for other in (
        key | {"d": "d"},
        key | {"k": "k"},
        key | {"kid": "s1"},
        key | {"kid": 5},
        key | {"use": "sig"},
    ):
        with pytest.raises(OAuthError, match="key 1: "):
            read_metadata(document(jwks=jwks(signing, other)), RULES)
    with pytest.raises(OAuthError, match="no key is for signing"):
        read_metadata(document(jwks=jwks(key)), RULES)


def test_a_client_chooses_one_algorithm_for_all() -> None:
    rules = replace(RULES, signing_algorithms=("ES256", "PS256"))
    both = document(id_token_signed_response_alg="ES256", authorization_signed_response_alg="PS256")
    with pytest.raises(OAuthError, match="it must be the same as id_token_signed_response_alg"):
        read_metadata(both, rules)


def test_what_was_told_is_accepted_again_and_changes_nothing() -> None:
    first = read_metadata(document(), RULES)
    assert read_metadata(first.document, RULES) == first


@pytest.mark.parametrize(
    "name", ["introspection", "may_introspect", "claims", "profile", "client_id", "x", "client_name#de"]
)
def test_what_is_not_the_registrants_to_say_is_left_out(name: str) -> None:
    metadata = read_metadata(document(**{name: "all"}), RULES)
    assert name not in metadata.document
    assert metadata == read_metadata(document(), RULES)


@pytest.mark.parametrize(
    ("changes", "binding", "subject"),
    [
        (SELF_SIGNED, BindingKind.DPOP, None),
        (BY_CA, BindingKind.DPOP, CertificateSubject("san_dns", "app.example")),
        (
            BY_CA | {"dpop_bound_access_tokens": False, "tls_client_certificate_bound_access_tokens": True},
            BindingKind.MTLS,
            CertificateSubject("san_dns", "app.example"),
        ),
    ],
)
def test_authentication_by_certificate(
    changes: dict[str, Any], binding: BindingKind, subject: CertificateSubject | None
) -> None:
    client = read_metadata(document(**changes), RULES).client("id")
    assert (client.binding, client.certificate_subject) == (binding, subject)


OK_BACKEND = replace(RULES, scope_ceiling=("system/*.rs",))


def test_system_scopes_come_from_the_initial_access_token_or_the_statement() -> None:
    with pytest.raises(OAuthError, match="needs an initial access token or a software statement"):
        read_metadata(document(**BACKEND), RULES)
    assert read_metadata(document(**BACKEND), OK_BACKEND).client("id").scope == ("system/Observation.rs",)
    stated = replace(RULES, stated={"scope": "system/Patient.r"})
    assert read_metadata(document(**BACKEND), stated).client("id").scope == ("system/Patient.r",)


def test_a_statement_takes_precedence_and_leaves_no_contradiction() -> None:
    stated = {"client_name": "Stated", "jwks_uri": "https://vendor.example/jwks", "software_id": "s-1"}
    metadata = read_metadata(document(client_name="Mine", logo_uri=None), replace(RULES, stated=stated))
    assert metadata.document["client_name"] == "Stated"
    assert "jwks" not in metadata.document
    client = metadata.client("id")
    assert (client.jwks, client.jwks_uri) == ((), "https://vendor.example/jwks")


def test_a_statement_is_judged_as_strictly_as_a_request() -> None:
    with pytest.raises(OAuthError) as caught:
        read_metadata(document(), replace(RULES, stated={"redirect_uris": ["http://app.example/"]}))
    assert caught.value.code is ErrorCode.INVALID_REDIRECT_URI


URI, META = ErrorCode.INVALID_REDIRECT_URI, ErrorCode.INVALID_CLIENT_METADATA
REFUSED: list[tuple[dict[str, Any], ErrorCode, str]] = [
    *(
        ({"redirect_uris": [uri]}, URI, "redirect_uris")
        for uri in (
            "http://app.example/", "https://*.app.example/", "https://app.example/*", "https://app.example/#x",
            "https://u@app.example/", "javascript:alert(1)", "data:text/html,x", "com.example.app:/cb",
            "http://127.0.0.1/cb", "https://app.example/?state=1", "https://app.example/?iss",
            "https://app.example/?error_description=x", "https://a.example/../b",
            "https://app.example/?error=", "https://app.example/?response=", "/cb", "", "https://app.example/ü",
            'https://app.example/"\\',
        )
    ),
    ({"redirect_uris": "https://app.example/"}, URI, "must be a list"),
    ({"redirect_uris": [5]}, URI, "must be a list"),
    ({"redirect_uris": ["https://a.example/", "https://a.example/"]}, URI, "each once"),
    ({"redirect_uris": [f"https://a.example/{n}" for n in range(21)]}, URI, "at most 20"),
    ({"redirect_uris": ABSENT}, META, "redirect_uris"),
    ({"redirect_uris": []}, META, "redirect_uris"),
    ({"application_type": "mobile"}, META, "expected web or native"),
    ({"token_endpoint_auth_method": ABSENT}, META, "is missing, expected private_key_jwt"),
    ({"token_endpoint_auth_method": "none"}, META, "is none, expected private_key_jwt"),
    ({"token_endpoint_auth_method": "client_secret_basic"}, META, "expected private_key_jwt"),
    ({"token_endpoint_auth_method": ["private_key_jwt"]}, META, "of the JSON type array"),
    ({"token_endpoint_auth_signing_alg": "RS256"}, META, "expected ES256"),
    ({"token_endpoint_auth_signing_alg": "none"}, META, "expected ES256"),
    ({"token_endpoint_auth_signing_alg": "PS256"}, META, "no key is for signing with PS256"),
    ({"request_object_signing_alg": "none"}, META, "expected ES256"),
    ({"grant_types": ["implicit"]}, META, "holds implicit"),
    ({"grant_types": ["refresh_token"]}, META, "code goes with|refresh_token goes with"),
    ({"grant_types": []}, META, "redirect_uris"),
    ({"response_types": ["token"]}, META, "holds token, expected code"),
    ({"response_types": []}, META, "code goes with"),
    ({**BACKEND, "response_types": ["code"]}, META, "code goes with"),
    ({**BACKEND, "redirect_uris": ["https://app.example/"]}, META, "redirect_uris"),
    ({"scope": ABSENT}, META, "scope: is missing"),
    ({"scope": ["openid"]}, META, "scope: must be text"),
    ({"scope": " "}, META, "names no scope"),
    ({"scope": "openid nonsense"}, META, "nonsense is not a scope"),
    ({"scope": "openid ü"}, META, "RFC 6749 3.3"),
    ({"scope": "openid system/*.rs"}, META, "client_credentials"),
    ({**BACKEND, "scope": "patient/*.rs"}, META, "authorization_code"),
    ({"jwks": ABSENT}, META, "keys of the client are needed"),
    ({"jwks_uri": "https://app.example/jwks"}, META, "not both"),
    ({"jwks": ABSENT, "jwks_uri": "http://app.example/jwks"}, META, "is not https"),
    ({"jwks": ABSENT, "jwks_uri": "https://u:p@app.example/jwks"}, META, "one host"),
    ({"jwks": jwks()}, META, "JWK Set"),
    ({"jwks": []}, META, "JWK Set"),
    ({"jwks": {"keys": ["k"]}}, META, "JWK Set"),
    ({"jwks": jwks(private_jwk(KEY))}, META, "must be public"),
    ({"jwks": jwks({"kty": "oct", "k": "AAAA"})}, META, "must be public"),
    ({"jwks": jwks(public_jwk(rsa_key(1, bits=1024)))}, META, "1024 bits"),
    ({"jwks": jwks(public_jwk(KEY, use="enc"))}, META, "no key is for signing"),
    ({"jwks": jwks(public_jwk(KEY, kid="a"), public_jwk(ec_key(), kid="a"))}, META, "earlier key"),
    ({"jwks": jwks(*(public_jwk(KEY) for _ in range(21)))}, META, "at most 20"),
    ({"dpop_bound_access_tokens": ABSENT}, META, "exactly one"),
    ({"dpop_bound_access_tokens": "true"}, META, "expected true or false"),
    ({"dpop_bound_access_tokens": 1}, META, "expected true or false"),
    ({"tls_client_certificate_bound_access_tokens": True}, META, "exactly one"),
    ({"authorization_signed_response_alg": "RS256"}, META, "expected ES256"),
    ({"authorization_signed_response_alg": "none"}, META, "expected ES256"),
    ({"id_token_signed_response_alg": "RS256"}, META, "expected ES256"),
    ({"id_token_encrypted_response_alg": "RSA-OAEP"}, META, "not encrypted"),
    ({"sector_identifier_uri": "https://app.example/s"}, META, "not fetched"),
    ({"subject_type": "hidden"}, META, "expected public or pairwise"),
    ({"subject_type": "pairwise", "redirect_uris": ["https://a.example/", "https://b.example/"]}, META, "one host"),
    ({"client_name": ABSENT}, META, "client_name: is missing"),
    *(
        ({"client_name": name}, META, "client_name")
        for name in (
            "", " a", "a\n", "a\u202eb", "a\u200bb", "a\x00", "\u3164", "a\u115fb", "\u2800", "\uffa0\uffa0",
            "x" * 101, 5, {"en": "a"},
        )
    ),
    *(
        ({name: uri}, META, name)
        for name in ("client_uri", "logo_uri", "policy_uri", "tos_uri")
        for uri in ("http://a.example/", "javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:x,y", "a.b:/c", "//a", 5)
    ),
    ({"post_logout_redirect_uris": ["javascript:alert(1)"]}, META, "post_logout_redirect_uris"),
    ({"contacts": "a@app.example"}, META, "list of texts"),
    ({"default_max_age": "60"}, META, "default_max_age: must be a whole number of seconds"),
    ({"default_max_age": True}, META, "default_max_age"),
    ({"default_max_age": 1.5}, META, "default_max_age"),
    ({"default_max_age": -1}, META, "default_max_age"),
    ({"default_max_age": 10**9}, META, "default_max_age"),
    ({"require_auth_time": "true"}, META, "expected true or false"),
    ({"contacts": ["a\u2028"]}, META, "contacts"),
    ({"software_version": 2}, META, "software_version"),
    ({"tls_client_auth_san_dns": "app.example"}, META, "none goes with private_key_jwt"),
    ({**BY_CA, "tls_client_auth_san_dns": ABSENT}, META, "exactly one"),
    ({**BY_CA, "tls_client_auth_subject_dn": "CN=a"}, META, "exactly one"),
    ({**BY_CA, "tls_client_auth_san_dns": "*.app.example"}, META, "not a san dns"),
    ({**BY_CA, "tls_client_auth_san_dns": "app.example\x00.evil"}, META, "not a san dns"),
    ({**BY_CA, "tls_client_auth_san_dns": ABSENT, "tls_client_auth_subject_dn": "nonsense"}, META, "not a subject dn"),
    ({**BY_CA, "tls_client_auth_san_dns": ABSENT, "tls_client_auth_san_ip": "999.1.1.1"}, META, "not a san ip"),
    ({**BY_CA, "tls_client_auth_san_dns": ABSENT, "tls_client_auth_san_email": "a"}, META, "not a san email"),
    ({**BY_CA, "tls_client_auth_san_dns": ABSENT, "tls_client_auth_san_uri": "a b"}, META, "not a san uri"),
    ({**BY_CA, "require_signed_request_object": True}, META, "keys of the client are needed"),
    ({**SELF_SIGNED, "jwks": jwks(public_jwk(KEY))}, META, "x5c must hold"),
    ({**SELF_SIGNED, "jwks": jwks(public_jwk(KEY, x5c=["!"]))}, META, "x5c must hold"),
    ({**SELF_SIGNED, "jwks": jwks(public_jwk(KEY, x5c=["AAAA"]))}, META, "cannot be read"),
    (
        {**SELF_SIGNED, "jwks": jwks(public_jwk(ec_key(), x5c=SELF_SIGNED["jwks"]["keys"][0]["x5c"]))},
        META,
        "not that of the key",
    ),
    (
        {**SELF_SIGNED, "jwks": jwks(certified(extensions=[(x509.BasicConstraints(True, None), True)]))},
        META,
        "CA:TRUE",
    ),
    (
        {
            **SELF_SIGNED,
            "jwks": jwks(
                certified(
                    extensions=[
                        (x509.KeyUsage(True, False, False, False, False, True, False, False, False), True)
                    ]
                )
            ),
        },
        META,
        "sign certificates",
    ),
    ({**SELF_SIGNED, "jwks": ABSENT, "jwks_uri": "https://app.example/jwks"}, META, "registered by jwks"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "said"), REFUSED)
def test_a_document_with_one_thing_wrong_is_refused(
    changes: dict[str, Any], code: ErrorCode, said: str
) -> None:
    with pytest.raises(OAuthError, match=said) as caught:
        read_metadata(document(**changes), RULES)
    assert caught.value.code is code
    assert caught.value.status == 400


def test_without_a_listener_for_certificates_nothing_relies_on_them() -> None:
    rules = replace(RULES, certificates_accepted=False)
    for changes in (BY_CA, SELF_SIGNED,
                    {"dpop_bound_access_tokens": False, "tls_client_certificate_bound_access_tokens": True}):  # fmt: skip
        with pytest.raises(OAuthError, match="sees no client certificates"):
            read_metadata(document(**changes), rules)
    read_metadata(document(), rules)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8000/cb", "http://[::1]/cb", "com.example.app:/cb"])
def test_RFC8252_7_native_apps_may_be_reached_on_the_device(uri: str) -> None:
    client = read_metadata(document(redirect_uris=[uri], application_type="native"), RULES).client("id")
    assert client.redirect_uris == (uri,)


def test_the_scope_ceiling_holds_for_every_scope() -> None:
    rules = replace(RULES, scope_ceiling=("openid", "offline_access", "patient/Observation.rs"))
    with pytest.raises(OAuthError, match=r"patient/\*.rs is more than"):
        read_metadata(document(), rules)
    read_metadata(document(scope="openid patient/Observation.r"), rules)


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({}, False),
        ({"contacts": ["new@app.example"], "software_version": "9"}, False),
        ({"jwks": jwks(public_jwk(ec_key()))}, False),
        ({"scope": "openid patient/Observation.r"}, False),
        ({"grant_types": ["authorization_code"]}, False),
        ({"require_signed_request_object": True}, False),
        ({"require_auth_time": True, "default_max_age": 60}, False),
        ({"redirect_uris": ["https://app.example/other"]}, True),
        ({"redirect_uris": [*BASIC["redirect_uris"], "https://app.example/other"]}, True),
        ({"post_logout_redirect_uris": ["https://app.example/out"]}, True),
        ({"scope": BASIC["scope"] + " patient/*.c"}, True),
        ({"jwks": ABSENT, "jwks_uri": "https://app.example/jwks"}, True),
        ({"grant_types": [*BASIC["grant_types"], "client_credentials"]}, True),
        ({"client_name": "Hospital"}, True),
        ({"logo_uri": "https://app.example/logo"}, True),
        ({"subject_type": "pairwise"}, True),
        (BY_CA, True),
        ({"dpop_bound_access_tokens": False, "tls_client_certificate_bound_access_tokens": True}, True),
        ({"token_endpoint_auth_signing_alg": "ES256"}, True),
    ],
)
def test_an_update_that_asks_for_more_than_was_vetted_waits(changes: dict[str, Any], waits: bool) -> None:
    vetted = read_metadata(document(), RULES).document
    assert exceeds(read_metadata(document(**changes), RULES).document, vetted) is waits


def test_beginning_to_push_is_free_and_ending_it_is_not() -> None:
    rules = replace(RULES, profile=PROFILES[ProfileName.SMART_ASYMMETRIC])
    pushing = read_metadata(document(require_pushed_authorization_requests=True), rules).document
    plain = read_metadata(document(require_pushed_authorization_requests=False), rules).document
    assert not exceeds(pushing, plain)
    assert exceeds(plain, pushing)


@pytest.mark.parametrize(("seconds", "waits"), [(59, False), (0, False), (61, True), (ABSENT, True)])
def test_wanting_newer_sign_ins_is_free_and_older_ones_are_not(seconds: Any, waits: bool) -> None:
    vetted = read_metadata(document(default_max_age=60), RULES).document
    assert exceeds(read_metadata(document(default_max_age=seconds), RULES).document, vetted) is waits


def test_signing_requests_no_longer_waits() -> None:
    vetted = read_metadata(document(require_signed_request_object=True), RULES).document
    assert exceeds(read_metadata(document(), RULES).document, vetted)


def outcome(given: dict[str, Any]) -> tuple[ClientMetadata | None, ErrorCode | None]:
    try:
        return read_metadata(given, RULES), None
    except OAuthError as error:
        return None, error.code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(METADATA)), JSON, max_size=6))
def test_a_hostile_document_is_refused_with_an_error_of_the_protocol_or_made_harmless(
    hostile: dict[str, Any],
) -> None:
    metadata, refusal = outcome(document(**hostile))
    assert refusal in (None, URI, META)
    if metadata is None:
        return
    client = metadata.client("id")
    assert not client.may_introspect
    assert client.claims == {}
    assert all(uri.startswith("https://") for uri in client.redirect_uris)
    assert not any(text.startswith("system/") for text in client.scope)
    assert read_metadata(json.loads(json.dumps(dict(metadata.document))), RULES) == metadata


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("https:/.*?#@%2e;codestate=&[]127.0.0.1\\ \u00fc\n"), max_size=40))
def test_a_hostile_redirect_uri_never_leaves_https(text: str) -> None:
    metadata, refusal = outcome(document(redirect_uris=["https://app.example/" + text]))
    assert refusal in (None, URI)
    if metadata is None:
        return
    assert "*" not in text
    assert "#" not in text
    assert "/../" not in f"/{text}/"
