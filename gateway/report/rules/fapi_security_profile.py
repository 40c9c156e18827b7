"""FAPI 2.0 Security Profile (Final), clause by clause, as far as it speaks of authorization and resource servers."""

from gateway.report.rules import client_checks, network, server_checks
from gateway.report.rules.server_checks import FAPI_METHODS
from gateway.report.rules.table import Rule, Specification

_CONFORMANCE = "tests/conformance/test_"
_rule = Specification("fapi2", "FAPI 2.0 Security Profile").rule


RULES: tuple[Rule, ...] = (
    _rule("5.2.1", 1, "Every endpoint is behind TLS", server=network.everything_is_https),
    _rule("5.2.1", 2, "TLS is version 1.2 or later", server=network.tls_is_new_enough),
    _rule("5.2.1", 3, "Certificates are as BCP 195 wants them", server=network.certificates_are_strong),
    _rule("5.2.1", 4, "Certificates are in date", server=network.certificates_are_in_date),
    _rule("5.2.1", 5, "Connections to stores are TLS too", server=network.stores_are_reached_safely),
    _rule(
        "5.2.1", 6, "Certificates of other servers are checked",
        module="gateway.proxy.upstream",
        held_by=_CONFORMANCE + "transport.py::test_beyond_a_store_without_a_trusted_certificate_is_not_talked_to",
    ),
    _rule("5.2.1", 7, "The names of the server are signed by DNSSEC", outside="ask the keeper of the zone"),
    _rule("5.2.2", 1, "With TLS 1.2 only recommended ciphers are spoken", server=network.ciphers_are_recommended),
    _rule(
        "5.2.3", 1, "Browsers are told to come by https alone",
        module="authz.login.browser",
        held_by=_CONFORMANCE + "transport.py::test_beyond_every_page_tells_browsers_to_come_by_https_alone",
    ),
    _rule(
        "5.2.3", 2, "No other site may read the authorization endpoint",
        module="gateway.app", held_by=_CONFORMANCE + "transport.py::test_T5_the_authorization_endpoint_knows_no_CORS",
    ),
    _rule(
        "5.3.2.1", 1, "Everything is found by metadata",
        server=server_checks.names("authorization_endpoint", "token_endpoint", "jwks_uri"),
    ),
    _rule("5.3.2.1", 2, "There is no password grant", server=server_checks.has_no_grant("password")),
    _rule("5.3.2.1", 3, "Clients are confidential", client=client_checks.is_confidential),
    _rule("5.3.2.1", 4, "Access tokens are bound to a key of their holder", server=server_checks.constrains_tokens),
    _rule("5.3.2.1", 5, "They are bound by DPoP or mutual TLS", server=server_checks.binds_tokens),
    _rule("5.3.2.1", 6, "The client's tokens are bound", client=client_checks.tokens_are_bound),
    _rule(
        "5.3.2.1", 7, "Clients authenticate by private_key_jwt or mutual TLS",
        server=server_checks.offers_only("token_endpoint_auth_methods_supported", FAPI_METHODS),
    ),
    _rule("5.3.2.1", 8, "The client authenticates by a key", client=client_checks.authenticates_by_key),
    _rule("5.3.2.1", 9, "The client can authenticate", client=client_checks.can_be_authenticated),
    _rule("5.3.2.1", 10, "The aliases for mutual TLS are right", server=server_checks.aliases_belong_to_the_mtls_origin),
    _rule(
        "5.3.2.1", 11, "Nobody is redirected to an address that is not registered",
        module="authz.protocol.authorization_answers",
        held_by=_CONFORMANCE
        + "authorization_endpoint.py::test_A1_no_error_is_ever_sent_to_an_address_that_is_not_registered",
    ),
    _rule(
        "5.3.2.1", 12, "Assertions are for the issuer, as one string",
        server=server_checks.wants_the_issuer_as_audience,
    ),
    _rule("5.3.2.1", 13, "Refresh tokens are not rotated", server=server_checks.keeps_refresh_tokens),
    _rule("5.3.2.1", 14, "Nonces of the server make proofs fresh", server=server_checks.asks_for_nonces),
    _rule("5.3.2.1", 15, "Codes live 60 s at most", server=server_checks.lives_at_most("code", fail_above=60)),
    _rule(
        "5.3.2.1", 16, "A code may be bound to a DPoP key",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_P11_a_code_that_PAR_bound_to_a_key_wants_that_key",
    ),
    _rule(
        "5.3.2.1", 17, "Clocks may differ by 10 s, and not by 60 s",
        module="authz.protocol.client_authentication",
        held_by=_CONFORMANCE + "client_authentication_rules.py::test_C5_iat_and_nbf_may_be_10_s_ahead_and_no_more",
    ),
    _rule("5.3.2.1", 18, "The client asks for no more than it needs", client=client_checks.privileges_are_small),
    _rule(
        "5.3.2.2", 1, "The only response type is code",
        server=server_checks.says("response_types_supported", ["code"]),
    ),
    _rule(
        "5.3.2.2", 2, "Requests can be pushed",
        server=server_checks.names("pushed_authorization_request_endpoint"),
    ),
    _rule("5.3.2.2", 3, "Requests must be pushed", server=server_checks.pushes_only),
    _rule("5.3.2.2", 4, "Metadata say that requests must be pushed", server=server_checks.announces_pushed_requests),
    _rule(
        "5.3.2.2", 5, "Only an authenticated client pushes",
        module="authz.endpoints.pushed_authorization",
        held_by=_CONFORMANCE + "pushed_authorization.py::test_P1_a_client_that_does_not_authenticate_is_refused",
    ),
    _rule(
        "5.3.2.2", 6, "Proof keys are required, by S256 alone",
        server=server_checks.says("code_challenge_methods_supported", ["S256"]),
    ),
    _rule(
        "5.3.2.2", 7, "A pushed request names its redirect URI",
        module="authz.protocol.authorization",
        held_by=_CONFORMANCE + "pushed_authorization.py::test_P5_only_a_registered_redirect_uri_byte_for_byte",
    ),
    _rule(
        "5.3.2.2", 8, "Answers name the issuer",
        server=server_checks.says("authorization_response_iss_parameter_supported", True),
    ),
    _rule("5.3.2.2", 9, "Answers go to https addresses", client=client_checks.redirects_are_https),
    _rule(
        "5.3.2.2", 10, "A code counts once",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_A3_a_second_use_revokes_what_the_first_gave_at_the_gateway_too",
    ),
    _rule(
        "5.3.2.2", 11, "Redirects are 303, never 307",
        module="authz.login.browser", held_by=_CONFORMANCE + "transport.py::test_T2_every_redirect_is_303",
    ),
    _rule(
        "5.3.2.2", 12, "A pushed request lives less than 600 s",
        server=server_checks.lives_at_most("pushed_request", fail_above=599, warn_above=300),
    ),
    _rule(
        "5.3.2.2", 13, "A pushed request counts once, when it is completed",
        module="authz.endpoints.authorize",
        held_by=_CONFORMANCE + "authorization_endpoint.py::test_P8_of_many_consents_at_once_one_gives_a_code",
    ),
    _rule("5.3.2.2", 14, "People learn who asks for what", client=client_checks.people_learn_who_asks),
    _rule(
        "5.3.2.2", 15, "A nonce of 64 characters and more is taken",
        module="authz.protocol.authorization",
        held_by=_CONFORMANCE + "openid_connect.py::test_K5_a_nonce_of_512_characters_comes_back_intact",
    ),
    _rule(
        "5.3.2.3", 1, "Who signed in is said by OpenID Connect",
        server=server_checks.names("userinfo_endpoint"),
    ),
    _rule(
        "5.3.4", 1, "The gateway takes tokens in the header",
        module="authz.resource_server", held_by=_CONFORMANCE + "dpop_endpoints.py::test_D7_scheme_names_have_no_case",
    ),
    _rule(
        "5.3.4", 2, "The gateway takes no token in the query",
        module="authz.resource_server",
        held_by=_CONFORMANCE
        + "exact_answers.py::test_E9_an_access_token_in_the_query_is_refused_even_beside_a_good_one",
    ),
    _rule(
        "5.3.4", 3, "The gateway checks validity, integrity, expiry and revocation",
        module="authz.resource_server",
        held_by="tests/attacks/test_group_q.py::test_a_revoked_token_and_a_revoked_grant_end_at_once",
    ),
    _rule(
        "5.3.4", 4, "The gateway checks that the token is enough for the request",
        module="gateway.policy.scope_layer",
        held_by="tests/unit/test_policy_scope_layer.py::test_without_a_scope_for_it_nothing_is_open",
    ),
    _rule(
        "5.3.4", 5, "The gateway wants the key that the token is bound to",
        module="authz.resource_server",
        held_by="tests/attacks/test_group_q.py::test_Q289_a_stolen_token_without_its_key_is_refused",
    ),
    _rule(
        "5.4.1", 1, "JWTs are read by RFC 8725",
        module="authz.protocol.jose",
        held_by="tests/unit/test_jose.py::test_only_the_algorithms_of_the_caller_are_accepted",
    ),
    _rule("5.4.1", 2, "Algorithms are PS256, ES256 and EdDSA", server=server_checks.signs_with_allowed_algorithms),
    _rule("5.4.1", 3, "The client's keys are for these algorithms", client=client_checks.keys_sign_as_allowed),
    _rule("5.4.1", 4, "The algorithm none does not exist", server=server_checks.never_offers_none),
    _rule("5.4.1", 5, "The server's keys are long enough", server=server_checks.own_keys_are_long_enough),
    _rule("5.4.1", 6, "The client's keys are long enough", client=client_checks.keys_are_long_enough),
    _rule(
        "5.4.1", 7, "Codes, tokens and handles have 128 random bits and more",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "exact_answers.py::test_E3_every_secret_is_32_random_bytes_in_base64url",
    ),
    _rule("5.4.2", 1, "Public keys are published at the issuer", server=server_checks.names("jwks_uri")),
    _rule("5.4.3", 1, "The server's keys are told apart", server=server_checks.own_keys_are_told_apart),
    _rule("5.4.3", 2, "The client's keys are told apart", client=client_checks.keys_are_told_apart),
    _rule("5.4.3", 3, "The client's certificates are in date", client=client_checks.certificates_are_in_date),
    _rule(
        "6.1", 1, "Access tokens live minutes",
        server=server_checks.lives_at_most("access_token", fail_above=3600, warn_above=900),
    ),
    _rule(
        "6.2", 1, "A proof counts once",
        module="authz.resource_server",
        held_by=_CONFORMANCE + "dpop_endpoints.py::test_D5_a_replay_is_401_on_every_node_over_the_whole_window",
    ),
    _rule(
        "6.2", 2, "A proof is young",
        server=server_checks.lives_at_most("dpop_proof", fail_above=300, warn_above=60),
    ),
    _rule(
        "6.2", 3, "A nonce lives minutes",
        server=server_checks.lives_at_most("dpop_nonce", fail_above=3600, warn_above=600),
    ),
    _rule("6.2", 4, "What was spent stays spent", server=server_checks.single_use_survives_a_power_cut),
    _rule(
        "6.5", 1, "No client has the name of a person",
        server=server_checks.names_of_clients_and_people_differ,
    ),
)  # fmt: skip
