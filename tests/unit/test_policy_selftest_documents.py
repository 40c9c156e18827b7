"""Tests in policy files that give a document and what leads to it."""

from pathlib import Path

import pytest

from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.selftests import selftest
from gateway.policy.selftests.selftest import SelfTestReport

FOLDER = Path(__file__).parents[1] / "data" / "policies"
DOCUMENT = "document: doc2-normal.xml"


def report(old: str = "", new: str = "", *, number: int = 1) -> SelfTestReport:
    """What the tests of the exchange say after a change of the policy."""
    files = policy_files(FOLDER)
    name = next(name for name in files if name.endswith("80-cda-exchange.yaml"))
    assert old in files[name]
    files[name] = files[name].replace(old, new, number)
    return selftest.run(language.load(files))


def test_documents_beside_the_policies_are_given_by_their_names() -> None:
    assert report() == SelfTestReport(6, (), ())


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [
        ("confidentiality_at_most: N", "confidentiality_at_most: R", "a restricted document stays here"),
        ("patient_from: recordTarget, ", "", "a document of another patient stays here"),
        ("status=current", "status=current,superseded", "a reference that was replaced leads nowhere"),
        (
            'consent: {scope: patient-privacy, decision: permit, for: "{token.org}", if_unavailable: deny}',
            'labels: {without: ["v3-ActCode|PSY"]}',
            "without the patient's consent it stays here",
        ),
    ],
)
def test_each_condition_is_what_its_test_hangs_on(old: str, new: str, failing: str) -> None:
    found = report(old, new)
    assert [str(problem).split("'")[1] for problem in found.failures] == [failing.partition("'")[0]], (
        found.failures
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (DOCUMENT, "document: doc2-nomral.xml", "Did you mean 'doc2-normal.xml'?"),
        (DOCUMENT, "document: [a]", "the name of a file beside the policies, or XML"),
        ("via: DocumentReference/d1", "via: d1", "expected what leads to it, such as DocumentReference/d1"),
        ("via: DocumentReference/d1", "via: {}", "expected what leads to it"),
    ],
)
def test_what_is_not_written_right_is_told(old: str, new: str, message: str) -> None:
    assert [text for text in map(str, report(old, new).failures) if message in text]


def test_without_what_leads_to_it_a_document_is_nobodys() -> None:
    (failure,) = report("doc2-normal.xml, via: DocumentReference/d1,", "doc2-normal.xml,").failures
    assert "one that is not restricted is fetched" in str(failure)


def test_a_document_is_part_of_what_was_loaded() -> None:
    files = policy_files(FOLDER)
    other = {name: text.replace("mrn-A", "mrn-B") for name, text in files.items()}
    assert language.load(files).hash != language.load(other).hash
