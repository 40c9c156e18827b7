"""The seven properties, and which tests hold each of them over what.

Whoever adds a way through the gateway finds here which law it has to be put under.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROPERTIES: dict[str, dict[str, tuple[str, str]]] = {
    "P1 the canonical form is its own canonical form": {
        "requests": ("unit/test_fhir_request.py", "test_P1_the_canonical_form_is_its_own_canonical_form"),
        "filters": ("unit/test_filter_expression.py", "test_P1_the_form_is_its_own_form"),
        "what the store is sent": (
            "model/test_laws_of_the_passage.py",
            "test_P1_P2_an_entry_of_a_batch_asks_the_store_what_the_request_alone_asks",
        ),
        "anything at all": (
            "conformance/test_fuzz_fhir.py",
            "test_what_strangers_send_as_fhir_is_refused_as_documented_or_has_one_reading",
        ),
    },
    "P2 the store reads what was decided about": {
        "paths": ("unit/test_fhir_request.py", "test_P2_a_path_is_one_path_however_it_is_escaped"),
        "parameters": ("unit/test_fhir_request.py", "test_P2_the_store_reads_the_same_parameters"),
        "entries of a batch": (
            "model/test_laws_of_the_passage.py",
            "test_P1_P2_an_entry_of_a_batch_asks_the_store_what_the_request_alone_asks",
        ),
        "XML and JSON": ("unit/test_fhir_xml.py", "test_any_value_of_the_definitions_is_the_same_after_xml"),
    },
    "P3 no way shows more than single reads": {
        "searches, includes, versions, histories, operations, batches, exports, pages": (
            "model/test_ways_through_the_passage.py",
            "test_P3_no_way_shows_more_than_single_reads",
        ),
        "decisions, with facts and consents": (
            "model/test_no_way_shows_more.py",
            "test_P3_no_way_shows_more_than_a_read",
        ),
        "what filters, Lists and full text tell": (
            "model/test_opened_words.py",
            "test_P3_what_is_opened_by_name_tells_nothing_that_a_read_would_hide",
        ),
        "what joins tell of what they go through": (
            "model/test_joins.py",
            "test_P3_a_search_tells_nothing_of_what_a_read_would_hide",
        ),
        "entries of a batch, with refusals": (
            "attacks/test_bundles.py",
            "test_P3_a_batch_answers_as_the_single_requests_do_whatever_their_order",
        ),
    },
    "P4 a rule that closes makes nothing larger": {
        "decisions and views, with facts and consents": (
            "model/test_policy_model.py",
            "test_P4_adding_a_rule_that_closes_never_shows_more",
        ),
        "answers": ("model/test_laws_of_the_passage.py", "test_P4_a_rule_that_closes_makes_no_answer_larger"),
    },
    "P5 a permit makes nothing smaller": {
        "decisions and views, with facts and consents": (
            "model/test_policy_model.py",
            "test_P5_adding_a_permit_never_shows_less",
        ),
        "views of one resource": (
            "unit/test_policy_view.py",
            "test_P5_one_more_permit_never_hides_anything",
        ),
        "answers": ("model/test_laws_of_the_passage.py", "test_P5_a_permit_makes_no_answer_smaller"),
    },
    "P6 borders of chunks change nothing": {
        "Bundles": ("unit/test_fhir_stream.py", "test_P6_the_pieces_of_any_bundle_are_those_of_the_whole"),
        "plain entries": (
            "unit/test_plain_json.py",
            "test_P6_entries_are_the_same_wherever_chunks_cut_and_whatever_their_form",
        ),
        "NDJSON": ("unit/test_fhir_ndjson.py", "test_chunk_borders_never_matter"),
        "Bundles that become XML": (
            "unit/test_xml_bundle.py",
            "test_the_bundle_is_the_same_in_whatever_order_and_pieces_it_came",
        ),
        "Binary": (
            "unit/test_fhir_binary.py",
            "test_P6_the_members_are_the_same_wherever_the_content_stands",
        ),
        "headers of documents": (
            "unit/test_cda_header.py",
            "test_P6_chunk_boundaries_never_change_what_is_read_or_refused",
        ),
        "bodies of callers": ("attacks/test_formats.py", "test_P6_pieces_of_a_body_change_nothing"),
        "answers in JSON and XML": (
            "model/test_laws_of_the_passage.py",
            "test_P6_the_pieces_of_the_stores_answer_never_change_ours",
        ),
    },
    "P7 the engine decides as a naive reading does": {
        "decisions and views, with facts and consents": (
            "model/test_policy_model.py",
            "test_P7_the_engine_decides_as_the_naive_model",
        ),
        "Binary and documents": (
            "model/test_attachments_model.py",
            "test_P7_the_engine_decides_as_the_naive_reading",
        ),
        "emergency access": (
            "model/test_emergency_model.py",
            "test_P7_emergency_access_is_the_permit_of_one_patient_for_a_reason",
        ),
    },
}
_HELD = [
    pytest.param(*place, id=f"{law[:2]}-{over}")
    for law, held in PROPERTIES.items()
    for over, place in held.items()
]


@pytest.mark.parametrize(("file", "name"), _HELD)
def test_each_property_is_held_by_a_test_that_exists(file: str, name: str) -> None:
    nodes = ast.walk(ast.parse((TESTS / file).read_bytes()))
    assert name in {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
