"""OAuth 2.1 (draft-ietf-oauth-v2-1), as far as it speaks of authorization and resource servers."""

from gateway.report.rules import client_checks, network, server_checks
from gateway.report.rules.table import Rule, Specification

_CONFORMANCE = "tests/conformance/test_"
_rule = Specification("oauth21", "OAuth 2.1").rule


RULES: tuple[Rule, ...] = (
    _rule(
        "1.4", 1, "Tokens can be neither made nor changed nor guessed",
        module="authz.resource_server",
        held_by="tests/attacks/test_group_q.py::test_a_token_whose_signature_was_changed_is_refused",
    ),
    _rule(
        "1.4.1", 1, "A token says its scope, and less is told",
        module="authz.endpoints.token",
        held_by=_CONFORMANCE + "token.py::test_K2_the_answer_and_the_token_are_as_RFC_9068_wants_them",
    ),
    _rule("1.4.3", 1, "The client's tokens are bound to a key", client=client_checks.tokens_are_bound),
    _rule("1.5", 1, "Everything is behind TLS", server=network.everything_is_https),
    _rule("2.3", 1, "Redirect URIs are whole addresses without fragment", client=client_checks.redirects_are_whole),
    _rule(
        "2.3.1", 1, "An address that is not registered is refused, compared as text",
        module="authz.protocol.authorization",
        held_by=_CONFORMANCE + "pushed_authorization.py::test_P5_only_a_registered_redirect_uri_byte_for_byte",
    ),
    _rule(
        "2.3", 2, "A query of the redirect URI is kept",
        module="authz.protocol.authorization_answers",
        held_by=_CONFORMANCE
        + "authorization_response.py::test_A1_a_registered_query_is_kept_in_success_and_in_refusal",
    ),
    _rule("2.4", 1, "The client can authenticate", client=client_checks.can_be_authenticated),
    _rule("2.4", 2, "Keys are better than secrets", client=client_checks.prefers_keys_to_secrets),
    _rule(
        "2.4", 3, "One request, one way to authenticate",
        module="authz.endpoints.client_authentication",
        held_by=_CONFORMANCE + "client_authentication.py::test_C9_exactly_one_method_in_a_request",
    ),
    _rule(
        "3.1", 1, "Unknown parameters are ignored",
        module="authz.endpoints.authorize",
        held_by=_CONFORMANCE + "authorization_endpoint.py::test_P9_only_client_id_and_request_uri_are_read",
    ),
    _rule(
        "3.1", 2, "No parameter comes twice",
        module="authz.protocol.encoding",
        held_by=_CONFORMANCE + "pushed_authorization.py::test_P14_a_parameter_that_is_sent_twice_is_refused",
    ),
    _rule(
        "3.2", 1, "The token endpoint is for POST",
        module="authz.server", held_by=_CONFORMANCE + "transport.py::test_T5_other_methods_are_405_with_allow",
    ),
    _rule(
        "3.2.3", 1, "Answers with tokens are kept by nobody",
        module="authz.http",
        held_by=_CONFORMANCE + "transport.py::test_T3_answers_with_tokens_and_codes_are_kept_nowhere",
    ),
    _rule(
        "3.2.4", 1, "invalid_client is 401 with the scheme that was used",
        module="authz.http",
        held_by=_CONFORMANCE
        + "client_authentication.py::test_C7_a_scheme_that_is_not_offered_is_401_with_that_scheme",
    ),
    _rule("4.1", 1, "There is no implicit grant", server=server_checks.says("response_types_supported", ["code"])),
    _rule("4.1", 2, "There is no password grant", server=server_checks.has_no_grant("password")),
    _rule(
        "4.1.1", 1, "Proof keys are supported and enforced",
        server=server_checks.offers("code_challenge_methods_supported", "S256"),
    ),
    _rule(
        "4.1.2", 1, "Codes are short-lived",
        server=server_checks.lives_at_most("code", fail_above=600, warn_above=60),
    ),
    _rule(
        "4.1.2", 2, "Answers name the issuer",
        server=server_checks.says("authorization_response_iss_parameter_supported", True),
    ),
    _rule(
        "4.1.2.1", 1, "Where the address is not proved nobody is redirected",
        module="authz.endpoints.authorize",
        held_by=_CONFORMANCE
        + "authorization_endpoint.py::test_P10_a_request_that_was_not_pushed_never_redirects_even_to_a_registered_address",
    ),
    _rule(
        "4.1.3", 1, "A code is for its client and its verifier, once",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_A4_what_does_not_belong_to_the_code_is_invalid_grant_and_burns_it",
    ),
    _rule(
        "4.2", 1, "Client credentials are for confidential clients and give no refresh token",
        module="authz.endpoints.grants",
        held_by=_CONFORMANCE + "token.py::test_K6_client_credentials_give_a_token_of_the_client_and_no_refresh_token",
    ),
    _rule("4.3", 1, "Refresh tokens are bound to their client", client=client_checks.refresh_tokens_need_a_client),
    _rule(
        "4.3.1", 1, "A refreshed token has no more scope than was granted",
        module="authz.protocol.granting", held_by=_CONFORMANCE + "token.py::test_K3_the_scope_cannot_grow",
    ),
    _rule(
        "4.3", 2, "Refresh tokens end",
        server=server_checks.lives_at_most("refresh_token", fail_above=400 * 86400, warn_above=180 * 86400),
    ),
    _rule(
        "5.1", 1, "A token in the query is not taken",
        module="authz.resource_server", held_by="tests/attacks/test_group_q.py::test_a_token_in_the_query_is_refused",
    ),
    _rule(
        "5.2", 1, "Tokens are checked for expiry and audience",
        module="authz.resource_server",
        held_by="tests/attacks/test_group_q.py::test_Q285_Q292_another_issuer_or_audience_is_401",
    ),
    _rule(
        "5.3.1", 1, "Refusals say what is missing in WWW-Authenticate",
        module="authz.resource_server",
        held_by="tests/unit/test_resource_server.py::test_the_challenge_answers_in_the_scheme_that_was_used",
    ),
    _rule(
        "7.1.3", 1, "Access tokens are short-lived",
        server=server_checks.lives_at_most("access_token", fail_above=3600, warn_above=900),
    ),
    _rule("7.1.4", 1, "Tokens are for named resources", server=server_checks.tokens_name_their_resource),
    _rule("7.1.4", 2, "The client asks for no more than it needs", client=client_checks.privileges_are_small),
    _rule("7.4", 1, "No client has the name of a person", server=server_checks.names_of_clients_and_people_differ),
    _rule(
        "7.5.3", 1, "Redirects are never 307",
        module="authz.login.browser", held_by=_CONFORMANCE + "transport.py::test_T2_every_redirect_is_303",
    ),
    _rule("7.7", 1, "Guessing passwords is slow", server=server_checks.guessing_is_slow),
    _rule("7.7", 2, "Passwords are kept as expensive hashes", server=server_checks.passwords_are_expensive),
    _rule("7.9", 1, "People learn who asks for what", client=client_checks.people_learn_who_asks),
    _rule(
        "7.10", 1, "Forms of another site are refused",
        module="authz.endpoints.authorize",
        held_by="tests/unit/test_login.py::test_a_form_without_the_token_of_this_session_and_interaction_is_refused",
    ),
    _rule(
        "7.11", 1, "No page can be framed",
        module="authz.login.browser",
        held_by="tests/unit/test_login.py::test_no_page_runs_a_script_is_framed_or_is_kept",
    ),
    _rule(
        "7.12", 1, "What comes from outside is shown as text",
        module="authz.login.browser",
        held_by="tests/unit/test_login.py::test_names_of_people_apps_and_records_are_shown_as_text",
    ),
    _rule(
        "7.13", 1, "The server is no open redirector",
        module="authz.protocol.authorization_answers",
        held_by=_CONFORMANCE
        + "authorization_endpoint.py::test_A1_no_error_is_ever_sent_to_an_address_that_is_not_registered",
    ),
    _rule("8.4.2", 1, "Native apps choose their loopback port", client=client_checks.loopback_ports_are_fixed),
    _rule("8.4.3", 1, "Addresses of native apps cannot be taken", client=client_checks.redirects_are_https),
)  # fmt: skip
