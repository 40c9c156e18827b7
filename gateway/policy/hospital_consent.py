"""`consent` in the definitions: consent that everything of a patient's compartment needs, whatever permits say.

It stands in force as a require of its own, about every type of the Patient compartment.
"""

from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment
from gateway.fhir.interaction import Interaction
from gateway.policy.reading.consent import read_consent
from gateway.policy.reading.definitions import Definitions
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.unless import read_unless
from gateway.policy.rules import Effect, Rule, SignIn, Where
from gateway.yaml_source import Mapping

_NOT_OF_A_RESOURCE = frozenset(
    {Interaction.CAPABILITIES, Interaction.OPERATION, Interaction.BATCH, Interaction.TRANSACTION}
)


def read_hospital_consent(reader: Reader, document: Mapping, definitions: Definitions) -> Rule | None:
    """The rule of the whole hospital; None where this file has none."""
    entry = document.entry("consent")
    if entry is None:
        return None
    first = definitions.places.setdefault("consent", entry.place)
    if first is not entry.place:
        said = f"consent of the whole hospital is said twice (first in {first.file}, line {first.line})"
        reader.problem(entry, said)
    body = reader.mapping(entry.value, "consent")
    condition = read_consent(reader, document, definitions, ("unless", "because"))
    if body is None or condition is None:
        return None
    types = frozenset(t for t in RESOURCE_TYPES if t == "Patient" or patient_compartment(t))
    may = frozenset(Interaction) - _NOT_OF_A_RESOURCE
    return Rule(
        id="definitions/consent",
        effect=Effect.REQUIRE,
        who=(),
        networks=None,
        may=may,
        resources=types,
        where=Where(consent=condition),
        shared=False,
        conceal=False,
        audit="standard",
        because=reader.text(body.node("because"), "because") or "Patients must have agreed.",
        place=entry.place,
        unless=read_unless(reader, body, Effect.REQUIRE, types, may, definitions, SignIn()),
    )
