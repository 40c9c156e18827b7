"""RFC 9700, Best Current Practice for OAuth 2.0 Security, as far as it speaks of authorization and resource servers."""

from gateway.report.rules import client_checks, network, server_checks
from gateway.report.rules.table import Rule, Specification

_CONFORMANCE = "tests/conformance/test_"
_rule = Specification("bcp", "RFC 9700").rule


RULES: tuple[Rule, ...] = (
    _rule("2", 1, "The client is of the strictest profile", client=client_checks.is_of_fapi2),
    _rule("2.1", 1, "Redirect URIs are compared as text", client=client_checks.redirects_are_whole),
    _rule(
        "2.1", 2, "The server is no open redirector",
        module="authz.protocol.authorization_answers",
        held_by=_CONFORMANCE
        + "authorization_endpoint.py::test_A1_no_error_is_ever_sent_to_an_address_that_is_not_registered",
    ),
    _rule(
        "2.1", 3, "Mix-up is prevented by the issuer in answers",
        server=server_checks.says("authorization_response_iss_parameter_supported", True),
    ),
    _rule(
        "2.1.1", 1, "Proof keys are supported and enforced",
        module="authz.protocol.pkce",
        held_by=_CONFORMANCE + "pushed_authorization.py::test_P4_proof_keys_are_required_with_S256_alone",
    ),
    _rule(
        "2.1.1", 2, "Metadata tell of proof keys, without plain",
        server=server_checks.says("code_challenge_methods_supported", ["S256"]),
    ),
    _rule(
        "2.1.2", 1, "Access tokens never travel in an authorization response",
        server=server_checks.says("response_types_supported", ["code"]),
    ),
    _rule("2.2.1", 1, "Access tokens are bound to a key", server=server_checks.constrains_tokens),
    _rule("2.2.1", 2, "The client's tokens are bound", client=client_checks.tokens_are_bound),
    _rule(
        "2.2.2", 1, "Refresh tokens of public clients are bound or rotated",
        client=client_checks.refresh_tokens_need_a_client,
    ),
    _rule("2.3", 1, "Tokens are for named resources", server=server_checks.tokens_name_their_resource),
    _rule("2.3", 2, "The client asks for no more than it needs", client=client_checks.privileges_are_small),
    _rule("2.3", 3, "No scope opens everything for every change", server=server_checks.scopes_are_named),
    _rule("2.4", 1, "There is no password grant", server=server_checks.has_no_grant("password")),
    _rule("2.5", 1, "Clients authenticate, best by keys", client=client_checks.prefers_keys_to_secrets),
    _rule(
        "2.6", 1, "Everything is found by metadata",
        server=server_checks.names("authorization_endpoint", "token_endpoint", "jwks_uri"),
    ),
    _rule("2.6", 2, "TLS reaches from end to end", server=network.everything_is_https),
    _rule(
        "2.6", 3, "No other site may read the authorization endpoint",
        module="gateway.app", held_by=_CONFORMANCE + "transport.py::test_T5_the_authorization_endpoint_knows_no_CORS",
    ),
    _rule("2.6", 4, "Answers go to https addresses", client=client_checks.redirects_are_https),
    _rule("4.1.3", 1, "Native apps choose their loopback port", client=client_checks.loopback_ports_are_fixed),
    _rule(
        "4.2.4", 1, "Nothing of the way here is told to other sites",
        module="authz.login.browser",
        held_by="tests/e2e/test_pages_in_chromium.py::test_nothing_of_the_way_here_is_told_to_the_app",
    ),
    _rule(
        "4.2.4", 2, "A code counts once, and its reuse ends what it gave",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_A3_a_second_use_revokes_what_the_first_gave_at_the_gateway_too",
    ),
    _rule(
        "4.3.1", 1, "No page and no address of ours holds a code or token",
        module="authz.endpoints.authorize",
        held_by=_CONFORMANCE
        + "authorization_endpoint.py::test_T2_no_code_and_no_request_uri_is_in_a_page_or_an_address_of_ours",
    ),
    _rule(
        "4.5.3", 1, "A code that was stolen is worth nothing without its verifier",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_A4_what_does_not_belong_to_the_code_is_invalid_grant_and_burns_it",
    ),
    _rule(
        "4.7.1", 1, "Forms of another site are refused",
        module="authz.endpoints.authorize",
        held_by="tests/unit/test_login.py::test_a_form_from_another_origin_is_refused",
    ),
    _rule(
        "4.8.2", 1, "Nobody gets around the verifier",
        module="authz.protocol.pkce",
        held_by=_CONFORMANCE + "exact_answers.py::test_E4_a_code_that_does_not_fit_is_400_invalid_grant",
    ),
    _rule(
        "4.9", 1, "A token is worth nothing to the resource server that it was shown to",
        module="authz.resource_server",
        held_by="tests/attacks/test_group_q.py::test_Q289_a_bound_token_is_no_bearer_token",
    ),
    _rule(
        "4.10.2", 1, "A token for another resource is refused",
        module="authz.resource_server",
        held_by="tests/unit/test_resource_server.py::test_a_token_for_another_mount_is_401",
    ),
    _rule(
        "4.11.2", 1, "Nobody registers an address that nobody has looked at",
        server=server_checks.registrations_are_approved,
    ),
    _rule(
        "4.12", 1, "Redirects are 303, never 307",
        module="authz.login.browser", held_by=_CONFORMANCE + "transport.py::test_T2_every_redirect_is_303",
    ),
    _rule("4.13", 1, "Only listed proxies speak for a client", server=network.proxies_are_few),
    _rule("4.13", 2, "Metrics and this report are private", server=network.operations_are_private),
    _rule(
        "4.14.2", 1, "Refresh tokens end, and with them the grant",
        server=server_checks.lives_at_most("refresh_token", fail_above=400 * 86400, warn_above=180 * 86400),
    ),
    _rule(
        "4.14.2", 2, "The late use of a replaced refresh token ends the grant",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "refresh_rotation.py::test_K3_a_late_use_of_the_old_token_ends_the_grant",
    ),
    _rule("4.15", 1, "No client has the name of a person", server=server_checks.names_of_clients_and_people_differ),
    _rule(
        "4.16", 1, "No page can be framed",
        module="authz.login.browser",
        held_by="tests/e2e/test_pages_in_chromium.py::test_no_page_can_be_framed_even_by_this_very_site",
    ),
    _rule(
        "4.17", 1, "Answers never pass through windows of other sites",
        module="authz.endpoints.authorization_response",
        held_by=_CONFORMANCE
        + "exact_answers.py::test_E10_nothing_but_code_state_and_iss_and_nothing_in_a_fragment",
    ),
)  # fmt: skip
