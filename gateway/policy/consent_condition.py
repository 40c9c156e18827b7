"""A consent condition, compiled for one caller: it holds where the patient's consents say what is asked."""

from gateway.fhir.compartment import patients_of
from gateway.policy.consent import ConsentCondition, ConsentQuestion
from gateway.policy.decision import Resource
from gateway.policy.known import Known


def holds_by_consent(
    condition: ConsentCondition,
    question: ConsentQuestion,
    resource: Resource,
    known: Known,
    bases: frozenset[str],
    *,
    in_doubt: bool,
) -> bool:
    """Whether the consents of every patient whom the resource is about say so; to close, one patient's are enough.

    in_doubt is the answer where it cannot be told: whom it is about, or what they said.
    """
    patients = patients_of(resource, bases)
    if not patients:
        return in_doubt
    found = []
    for patient in sorted(patients):  # all of them are looked for at once
        answer = known.consent(patient, question)
        if answer is None:
            found.append(in_doubt is not known.supposes)
        else:
            found.append(answer.said is condition.decision)
    return any(found) if in_doubt else all(found)
