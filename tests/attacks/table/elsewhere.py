"""Cases that other tests show, wholly or where a row of the table cannot: by file and name of the test."""

_BUNDLES = "tests/attacks/test_bundles.py::"
_ENTRY = _BUNDLES + "test_an_entry_is_refused_as_it_would_be_alone"
_WHOLE = _BUNDLES + "test_a_bundle_that_has_another_reading_is_refused_whole"
_TRANSACTIONS = "tests/attacks/test_transactions.py::"
_REFUSAL = _TRANSACTIONS + "test_one_refusal_is_the_refusal_of_all"
_FRAMING = "tests/attacks/test_groups_a_b_c.py::"
_Q = "tests/attacks/test_group_q.py::"
_L = "tests/attacks/test_group_l.py::"
_BINARIES = "tests/attacks/test_binaries.py::"
_N = "tests/attacks/test_group_n_at_documents.py::"
_DOCUMENTS = "tests/attacks/test_documents.py::"
_FACTS = "tests/attacks/test_facts_and_consents.py::"
_EMERGENCY = "tests/attacks/test_emergency_access.py::"
_LANGUAGE = "tests/unit/test_policy_language.py::"
_IN_FORCE = "tests/attacks/test_policies_in_force.py::"
_STREAMING = "tests/e2e/test_streaming.py::"
_PAGES = "tests/attacks/test_hidden_pages.py::"
_LEAVING = "tests/attacks/test_callers_that_leave.py::"

ELSEWHERE: dict[int, tuple[str, ...]] = {
    28: (_FRAMING + "test_B28_two_framings_at_once_are_refused",),
    29: (_FRAMING + "test_B29_a_pipelined_request_is_authenticated_on_its_own",),
    30: (_FRAMING + "test_B30_a_bad_token_is_refused_before_the_body_is_asked_for",),
    34: (_FRAMING + "test_C34_one_authorization_with_one_token",),
    168: (_ENTRY, _REFUSAL),
    169: (_WHOLE,),
    170: (_ENTRY, _WHOLE),
    172: (_WHOLE, _BUNDLES + "test_J172_a_json_patch_comes_in_a_binary_and_is_judged"),
    173: (_WHOLE,),
    174: (_ENTRY,),
    176: (
        _REFUSAL,
        _TRANSACTIONS + "test_a_new_resource_is_referred_to_by_a_urn_that_only_the_gateway_knows",
    ),
    177: (_WHOLE,),
    178: (_WHOLE, _REFUSAL),
    180: (_REFUSAL,),
    181: (
        _BUNDLES + "test_J181_conditions_of_an_entry_act_as_the_headers_do_after_the_decision",
        _REFUSAL,
    ),
    182: (_REFUSAL,),
    184: (_ENTRY, _REFUSAL),
    185: (
        _BUNDLES + "test_a_batch_answers_every_entry_in_its_place",
        _TRANSACTIONS + "test_J185_an_answer_that_cannot_be_matched_to_what_was_sent_is_no_answer",
    ),
    186: (_BUNDLES + "test_J186_a_refused_entry_stands_beside_those_that_pass", _REFUSAL),
    188: (_BUNDLES + "test_J188_no_header_of_the_bundle_changes_how_the_store_takes_it",),
    206: (_L + "test_L206_a_job_and_a_file_of_another_are_not_found_byte_for_byte_as_one_that_never_was",),
    208: (_L + "test_L208_the_manifest_names_the_gateway_alone_and_files_hold_what_may_be_seen",),
    209: (_L + "test_L209_a_job_of_other_policies_is_ended_and_not_found",),
    217: ("tests/attacks/test_leaks.py::test_a_page_of_somebody_else_opens_for_nobody",),
    225: (
        _PAGES + "test_225_pages_that_are_all_hidden_cost_one_request_each_and_end",
        _PAGES + "test_225_links_without_end_are_followed_by_the_caller_alone",
    ),
    226: (
        _BINARIES + "test_226_the_binary_of_an_own_document_is_read_and_a_strangers_is_not_there",
        _N + "test_N226_a_strangers_document_is_not_there",
    ),
    228: (
        _BINARIES + "test_228_a_security_context_opens_what_its_resource_opens",
        _N + "test_N228_a_security_context_files_only_where_it_is_read",
    ),
    229: (
        "tests/attacks/test_binary_writes.py::test_229_an_attachment_opens_no_binary_that_its_writer_may_not_read",
        _N + "test_N229_nobody_writes_the_reference_that_would_open_anothers_document",
    ),
    230: (
        _BINARIES + "test_313_the_address_of_an_attachment_leads_back_through_the_gateway",
        _N + "test_N230_no_address_of_the_store_goes_out",
    ),
    232: (
        _BINARIES + "test_232_content_opens_in_no_browser_under_the_name_of_the_gateway",
        _N + "test_N232_and_N238_a_document_opens_in_no_browser",
    ),
    236: (
        _DOCUMENTS + "test_236_every_record_target_is_the_patient_of_what_leads_to_it",
        _N + "test_N236_every_record_target_is_the_one_patient",
    ),
    237: (
        _DOCUMENTS + "test_237_what_cannot_be_read_for_certain_stays_here",
        _N + "test_N237_what_reaches_outside_a_document_is_neither_read_nor_filed",
    ),
    238: (
        _DOCUMENTS + "test_238_a_document_is_never_rendered_and_brings_no_stylesheet",
        _N + "test_N232_and_N238_a_document_opens_in_no_browser",
    ),
    240: (
        _DOCUMENTS + "test_what_is_no_clinical_document_is_not_opened_by_a_rule_about_those",
        _N + "test_N240_a_package_is_no_document",
    ),
    266: ("tests/attacks/test_formats.py::test_what_is_not_one_readable_resource_is_not_stored",),
    277: (
        _FACTS + "test_nobody_in_care_is_no_data_and_no_request",
        "tests/unit/test_policy_engine.py::test_Q277_an_empty_list_of_patients_is_nobody_not_everybody",
    ),
    288: (
        _Q + "test_Q288_a_proof_for_another_url_or_method_is_refused_and_says_what_was_expected",
        _Q + "test_Q288_a_proof_is_good_once",
        _Q + "test_Q288_a_proof_for_another_token_is_refused",
    ),
    289: (
        _Q + "test_Q289_a_bound_token_is_no_bearer_token",
        _Q + "test_Q289_a_certificate_bound_token_needs_its_certificate_on_every_request",
        _Q + "test_Q289_a_stolen_token_without_its_key_is_refused",
    ),
    296: (_FACTS + "test_296_what_belongs_to_a_labelled_encounter_is_labelled",),
    298: (_FACTS + "test_298_consents_that_come_too_late_are_503",),
    301: (
        _EMERGENCY + "test_A301_searches_over_all_exports_and_writes_stay_closed",
        _EMERGENCY + "test_A301_the_answer_holds_one_patient_whatever_the_store_answers",
    ),
    302: (_EMERGENCY + "test_A302_a_reason_that_is_none_is_refused_and_nowhere_written",),
    304: (
        "tests/unit/test_policy_hours.py::test_304_a_rule_holds_in_its_hours_by_the_clocks_of_its_zone",
        "tests/unit/test_policy_hours.py::test_304_a_change_of_clocks_is_followed_as_the_clocks_on_the_wall_do",
    ),
    317: (
        _LANGUAGE + "test_a_rule_that_is_not_right_is_refused_at_its_place",
        _LANGUAGE + "test_rule_names_are_unique_in_the_whole_set",
        "tests/attacks/test_reloads.py::test_policies_that_are_wrong_keep_the_old_ones_in_force",
    ),
    318: (
        "tests/unit/test_yaml_source.py::test_what_has_surprised_somebody_is_refused",
        "tests/unit/test_yaml_source.py::test_values_of_yaml_1_1_that_surprise_stay_text",
    ),
    320: (_IN_FORCE + "test_T320_an_answer_goes_on_by_the_policies_that_it_began_with",),
    321: (_IN_FORCE + "test_T321_one_broken_file_of_many_changes_nothing",),
    322: (_IN_FORCE + "test_T322_without_policies_nobody_sees_anything",),
    324: (_FACTS + "test_324_a_list_is_good_for_its_time_and_no_longer",),
    325: (
        _FACTS + "test_325_a_list_that_cannot_be_had_is_503_and_opens_nothing",
        _FACTS + "test_325_a_store_that_goes_on_failing_is_left_alone",
    ),
    326: (_IN_FORCE + "test_T326_who_asks_why_learns_a_code_and_no_rule",),
    328: ("tests/unit/test_policy_index.py::test_T328_of_two_thousand_rules_few_are_looked_at",),
    329: (_IN_FORCE + "test_T329_without_a_record_there_is_no_access",),
    330: (
        "tests/unit/test_policy_statements.py::test_330_a_huge_resource_is_given_up_on_the_safe_side",
        "tests/unit/test_policy_statements.py::test_317_a_statement_that_is_not_right_is_refused_at_its_place",
    ),
    332: (_STREAMING + "test_a_gigabyte_comes_down_filtered_within_50_MB",),
    333: (
        "tests/attacks/test_effects.py::test_a_rate_is_of_the_principal_and_the_next_request_is_429_with_the_time_to_wait",
        "tests/unit/test_lookups.py::test_a_fact_is_asked_once_for_all_who_wait_and_one_who_leaves_spoils_nothing",
    ),
    334: (
        "tests/attacks/test_key_set_urls.py::test_I3_a_flood_of_kids_is_one_fetch_and_the_client_still_works",
    ),
    336: (
        "tests/attacks/test_filters_on_hidden.py::test_336_searches_that_leave_entries_to_the_judge_are_counted",
    ),
    337: ("tests/attacks/test_long_answers.py::test_U337_a_bundle_beyond_its_budget_never_ends_well",),
    338: (_LEAVING + "test_who_hangs_up_in_the_middle_of_a_long_bundle_frees_the_store_and_is_on_record",),
}
"""Number to the tests that show it."""
