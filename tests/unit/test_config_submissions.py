"""`documents.submission` of a mount: what of new documents is looked at."""

import pytest

from gateway.cda.harmful import Harm
from gateway.config.document import load
from gateway.document_settings import SubmissionSettings
from tests.unit.test_config import Write, changed, problems, write

__all__ = ["write"]
_MOUNT = """
  cda:
    {kind: cda-rest, at: /cda, base: "http://127.0.0.1:81", documents: {patients: fhir, submission: %s}}
policies: policies"""


def with_submission(said: str) -> str:
    return changed(("\npolicies: policies", _MOUNT % said))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{}", SubmissionSettings()),
        ("{structure: unchecked}", SubmissionSettings(structure=False)),
        (
            "{refuse: [executable, script]}",
            SubmissionSettings(refused=frozenset({Harm.EXECUTABLE, Harm.SCRIPT})),
        ),
        ("{largest: 5MiB}", SubmissionSettings(largest=5 * 1024 * 1024)),
    ],
)
def test_what_is_said_is_in_force(write: Write, said: str, expected: SubmissionSettings) -> None:
    settings = load(write(with_submission(said)), {})
    documents = settings.upstreams[1].documents
    assert documents is not None
    assert documents.submission == expected


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{refuse: [scripts]}", "'scripts'"),
        ("{strcture: checked}", "Did you mean 'structure'?"),
        ("{structure: maybe}", "'maybe', expected checked or unchecked"),
        ("{largest: much}", "'much'"),
    ],
)
def test_what_is_wrong_is_told(write: Write, said: str, message: str) -> None:
    assert [text for text in problems(write(with_submission(said))) if message in text]
