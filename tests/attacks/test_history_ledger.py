"""Where each of the weaknesses 1 to 55 of other authorization servers is tried: by a test of its name, or by another."""

import re

from tests.support.ledger import names_of_tests

ELSEWHERE = {
    1: ("test_P5_the_redirect_uri_is_exactly_one_of_the_registered",),
    2: ("test_a_redirect_uri_leads_to_one_place_that_is_the_clients",),
    3: ("test_P14_a_parameter_that_comes_twice_is_refused",),
    4: (
        "test_A2_the_code_is_kept_as_a_digest_with_all_that_it_is_bound_to",
        "test_A4_E4_what_does_not_belong_to_the_code_is_invalid_grant",
    ),
    5: ("test_P4_PKCE_with_S256_is_required", "test_A3_a_second_use_revokes_the_tokens_of_the_first"),
    6: ("test_A1_A5_a_refusal_is_access_denied_with_iss", "test_M1_issuer_is_the_same_in_every_document"),
    7: (
        "test_logout_leads_to_registered_addresses_only",
        "test_A1_no_error_is_ever_sent_to_an_address_that_is_not_registered",
    ),
    9: ("test_T2_every_redirect_is_303",),
    11: (
        "test_P7_the_request_uri_is_of_the_client_that_pushed",
        "test_P8_of_parallel_consents_to_one_request_exactly_one_counts",
    ),
    13: ("test_S1_E4_any_defect_is_invalid_request_object", "test_S2_only_what_is_inside_counts"),
    15: ("test_C2_aud_is_the_issuer_as_a_string",),
    16: (
        "test_C6_a_jti_counts_once_at_all_endpoints_of_all_nodes",
        "test_C6_of_parallel_uses_of_one_assertion_exactly_one_is_taken",
    ),
    17: ("test_C4_exp_is_required_and_at_most_5_minutes_ahead",),
    19: ("test_C1_three_algorithms_and_no_other", "test_D1_a_secret_that_is_the_public_key_signs_nothing"),
    20: ("test_E14_keys_are_chosen_by_kid_and_never_taken_from_the_token",),
    21: (
        "test_D1_critical_extensions_are_refused_and_other_members_ignored",
        "test_what_strangers_send_is_refused_as_documented_or_means_the_same_to_all",
    ),
    23: (
        "test_an_ES256_signature_of_special_numbers_is_refused",
        "test_D1_an_ES256_signature_in_DER_is_refused",
    ),
    24: (
        "test_C7_a_scheme_is_answered_by_401_with_a_challenge_and_the_rest_by_400",
        "test_C9_one_method_and_only_the_registered_one",
    ),
    27: (
        "test_headers_of_somebody_who_is_no_proxy_say_nothing",
        "test_C12_a_certificate_through_a_listed_proxy_and_through_no_other",
    ),
    33: ("test_D9_what_is_refused_for_something_else_spends_no_proof",),
    34: ("test_D1_any_private_member_is_enough", "test_D1_a_short_RSA_key_is_refused_with_its_length"),
    35: ("test_E8_D3_htu_is_the_url_that_was_called", "test_D3_any_other_htu_is_refused"),
    36: ("test_D4_without_a_nonce_iat_is_60_s_old_at_most_and_10_s_ahead",),
    39: (
        "test_D2_ath_is_required_with_an_access_token_and_that_of_this_token",
        "test_E9_an_access_token_in_the_query_is_refused_even_beside_a_good_one",
    ),
    40: ("test_K3_of_parallel_uses_of_one_refresh_token_without_grace_exactly_one_wins",),
    41: (
        "test_a_signature_is_checked_once_and_the_times_every_time",
        "test_revocation_is_looked_at_on_every_request",
    ),
    43: (
        "test_signing_in_changes_the_cookie_and_ends_the_one_before",
        "test_a_planted_cookie_that_the_server_never_gave_is_not_taken_over",
    ),
    44: (
        "test_a_form_without_the_token_of_this_session_and_interaction_is_refused",
        "test_a_form_from_another_origin_is_refused",
    ),
    45: (
        "test_names_of_people_apps_and_records_are_shown_as_text",
        "test_no_page_runs_a_script_is_framed_or_is_kept",
    ),
    46: ("test_no_page_can_be_framed_even_by_this_very_site",),
    47: ("test_P8_it_may_be_opened_again_until_it_is_completed_and_never_after",),
    48: ("test_M1_host_and_forwarded_headers_do_not_change_the_issuer",),
    49: (
        "test_D1_remembered_headers_are_bounded_and_only_those_that_signed",
        "test_what_is_remembered_is_bounded_and_the_expired_goes_first",
    ),
    50: (
        "test_unknown_names_and_wrong_passwords_get_the_same_page",
        "test_a_name_that_is_tried_from_many_addresses_is_limited",
    ),
    26: ("test_SEC26_a_suspended_client_cannot_come_back_by_its_registration_token",),
    52: (
        "test_I3_an_address_of_our_network_is_not_asked",
        "test_I3_neither_a_private_address_nor_its_own_listener_is_asked",
    ),
    53: (
        "test_I3_the_whole_resulting_document_is_judged_at_an_update",
        "test_an_update_that_asks_for_more_waits_while_the_vetted_one_stays_in_force",
    ),
    54: (
        "test_I3_a_flood_of_kids_is_one_fetch_and_the_client_still_works",
        "test_I3_kids_that_nobody_has_cost_one_fetch_a_minute",
    ),
    55: ("test_I3_our_own_listener_is_not_asked",),
}
"""Number → tests that show it, where no test of its own asserts more."""


def test_every_number_has_a_test_that_exists() -> None:
    names = set(names_of_tests())
    own = {int(number) for name in names for number in re.findall(r"SEC_([0-9]{2})", name)}
    assert own | ELSEWHERE.keys() >= set(range(1, 56))
    assert {name for tests in ELSEWHERE.values() for name in tests} - names == set()
