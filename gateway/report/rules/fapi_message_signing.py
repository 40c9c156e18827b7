"""FAPI 2.0 Message Signing (Final), as far as it speaks of authorization servers.

Its requirements hold for clients that are registered for it: signed_requests and signed_responses 'required'.
"""

from gateway.report.rules import client_checks, server_checks
from gateway.report.rules.server_checks import FAPI_ALGORITHMS
from gateway.report.rules.table import Rule, Specification

_SIGNING = "tests/conformance/test_message_signing.py::"
_rule = Specification("signing", "FAPI 2.0 Message Signing").rule


RULES: tuple[Rule, ...] = (
    _rule(
        "5.3.1", 1, "Signed request objects are taken", server=server_checks.says("request_parameter_supported", True)
    ),
    _rule(
        "5.3.1", 2, "They are signed by PS256, ES256 or EdDSA",
        server=server_checks.offers_only("request_object_signing_alg_values_supported", FAPI_ALGORITHMS),
    ),
    _rule(
        "5.3.1", 3, "They are pushed, not fetched", server=server_checks.says("request_uri_parameter_supported", False)
    ),
    _rule(
        "5.3.1", 4, "aud holds the issuer, nbf and exp are within an hour, typ is right",
        module="authz.protocol.request_objects", held_by=_SIGNING + "test_S1_any_defect_is_invalid_request_object",
    ),
    _rule(
        "5.3.1", 5, "Only what is signed counts",
        module="authz.endpoints.pushed_authorization",
        held_by=_SIGNING + "test_S2_only_what_is_inside_the_object_counts",
    ),
    _rule("5.3.1", 6, "The client signs its requests", client=client_checks.requests_are_signed),
    _rule("5.4.1", 1, "Answers can be signed", server=server_checks.offers("response_modes_supported", "jwt")),
    _rule(
        "5.4.1", 2, "They are signed by PS256, ES256 or EdDSA",
        server=server_checks.offers_only(
            "authorization_signing_alg_values_supported", FAPI_ALGORITHMS, "keys.algorithm"
        ),
    ),
    _rule(
        "5.4.1", 3, "A signed answer lives 10 minutes at most and says iss, aud and exp",
        module="authz.protocol.authorization_answers",
        held_by=_SIGNING + "test_A6_a_signed_answer_holds_all_and_stands_alone",
    ),
    _rule("5.4.1", 4, "The client's answers are signed", client=client_checks.responses_are_signed),
    _rule("5.5.1", 1, "Introspection is offered", server=server_checks.names("introspection_endpoint")),
    _rule(
        "5.5.1", 2, "Its signed answers are by PS256, ES256 or EdDSA",
        server=server_checks.offers_only(
            "introspection_signing_alg_values_supported", FAPI_ALGORITHMS, "keys.algorithm"
        ),
    ),
    _rule(
        "5.5.1", 3, "A signed answer is for the one who asked",
        module="authz.endpoints.introspection", held_by=_SIGNING + "test_S4_a_signed_answer_is_for_the_one_who_asked",
    ),
    _rule(
        "5.5.1", 4, "Only resource servers ask about tokens of others",
        client=client_checks.only_resource_servers_ask_about_all,
    ),
)  # fmt: skip
