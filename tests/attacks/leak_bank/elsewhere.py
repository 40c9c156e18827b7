"""Questions that other tests ask, wholly or where one request cannot: by file and name of the test."""

_HERE = "tests/attacks/leak_bank/test_leak_bank.py::"
_SCOPES = "tests/conformance/test_smart_scopes.py::"
_FRAMING = "tests/attacks/test_groups_a_b_c.py::"
_LOGIN = "tests/unit/test_login.py::"
_TOKEN = "tests/conformance/test_token.py::"
_Q = "tests/attacks/test_group_q.py::"
_DOCUMENTS = "tests/attacks/test_documents.py::"

ELSEWHERE: dict[int, tuple[str, ...]] = {
    22: (_SCOPES + "test_LK022_a_filter_that_cannot_be_kept_exactly_is_refused_when_it_is_asked_for",),
    28: (_SCOPES + "test_LK028_a_patients_scope_is_for_nobody_without_a_patient",),
    60: (
        _HERE + "test_LK060_a_page_opens_for_nobody_else",
        _Q + "test_a_revoked_token_and_a_revoked_grant_end_at_once",
    ),
    24: (_SCOPES + "test_LK024_a_filter_of_a_wildcard_is_for_types_that_have_its_parameter",),
    82: (_SCOPES + "test_E27_a_filtered_scope_exports_nothing",),
    85: (
        "tests/attacks/test_group_l.py::test_L208_the_manifest_names_the_gateway_alone_and_files_hold_what_may_be_seen",
    ),
    89: (
        _FRAMING + "test_B28_two_framings_at_once_are_refused",
        _FRAMING + "test_B29_a_pipelined_request_is_authenticated_on_its_own",
    ),
    102: (
        _Q + "test_Q290_an_expired_token_is_refused_even_when_it_was_seen_before",
        _Q + "test_a_revoked_token_and_a_revoked_grant_end_at_once",
    ),
    97: (
        _DOCUMENTS + "test_236_a_reference_of_the_own_patient_to_anothers_document_opens_nothing",
        _DOCUMENTS + "test_236_every_record_target_is_the_patient_of_what_leads_to_it",
    ),
    104: (
        _TOKEN + "test_K3_the_scope_cannot_grow",
        _SCOPES + "test_LK104_a_refresh_narrows_one_scope_by_itself",
    ),
    105: (_SCOPES + "test_LK105_a_launch_from_a_record_is_never_granted_so_no_handle_opens_anything",),
    106: (
        _LOGIN + "test_a_patient_cannot_choose_a_record_of_somebody_else",
        _LOGIN + "test_only_a_record_that_was_offered_can_be_chosen",
    ),
    108: (
        "tests/unit/test_scopes.py::test_every_scope_has_plain_words",
        _SCOPES + "test_LK108_every_letter_that_is_enforced_is_said_to_the_person",
    ),
    120: ("tests/e2e/test_operations.py::test_logs_are_JSON_lines_without_secrets_and_PHI",),
}
