"""Resources that rule what the store does: only a permit that names the type opens writes of them.

A SearchParameter changes what a search finds, a StructureDefinition what is stored, a Library what is computed, an
Endpoint where data goes. Nobody means these by `resources: any`, so `any` and sets do not open their writes. A new
Patient is a right of its own as well: a second record of a person takes data away from the first one.

A Subscription makes the store send data by itself, past every judge: its writes stay closed to everybody. What it, an
Endpoint or a TestScript sends along as headers, which are often credentials, is shown to nobody.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.fhir.interaction import Interaction
from gateway.policy.conditions import ALWAYS
from gateway.policy.rules import Effect, Rule
from gateway.policy.sight import Taken
from gateway.policy.sources import WRITING
from gateway.yaml_source import Problem

INFRASTRUCTURE: Mapping[str, str] = {
    "ActivityDefinition": "what is ordered",
    "CapabilityStatement": "what the store says of itself",
    "ChargeItemDefinition": "what is charged, by expressions",
    "CodeSystem": "what codes mean",
    "CompartmentDefinition": "what belongs to a patient",
    "ConceptMap": "what codes are translated to",
    "Endpoint": "where data is sent",
    "EventDefinition": "what sets something off",
    "ExampleScenario": "what an implementation guide shows",
    "GraphDefinition": "what is returned along with a resource",
    "ImplementationGuide": "which definitions are loaded",
    "Library": "logic that is run",
    "Measure": "logic that is run",
    "MessageDefinition": "what messages set off",
    "NamingSystem": "what identifiers mean",
    "ObservationDefinition": "what is normal of a result",
    "OperationDefinition": "which operations there are",
    "PlanDefinition": "logic that is run",
    "Questionnaire": "what is asked, by expressions",
    "ResearchDefinition": "who is found for research, by expressions",
    "ResearchElementDefinition": "who is found for research, by expressions",
    "SearchParameter": "what a search finds",
    "SpecimenDefinition": "what is taken for a test",
    "StructureDefinition": "what is stored",
    "StructureMap": "what a resource is turned into",
    "Subscription": "what the store sends by itself",
    "TerminologyCapabilities": "what the store says of its terminology",
    "TestScript": "requests that are run",
    "ValueSet": "which codes are taken",
}
"""Each type with what it rules."""
SENDING = frozenset({"Subscription"})
"""Types whose writes are closed to everybody."""
_SECRETS: Mapping[str, tuple[str, ...]] = {
    "Endpoint": ("Endpoint.header",),
    "Subscription": ("Subscription.channel.header",),
    "TestScript": tuple(
        f"TestScript.{phase}.action.operation.requestHeader" for phase in ("setup", "test", "teardown")
    ),
}
SECRETIVE = frozenset(_SECRETS)
"""Types of which something is taken away from everybody."""


def must_be_named(type_: str, interaction: Interaction) -> bool:
    """Whether only a permit that names the type opens this interaction."""
    if type_ == "Patient":
        return interaction is Interaction.CREATE
    return type_ in INFRASTRUCTURE and interaction in WRITING


def opens(permit: Rule, type_: str, interaction: Interaction) -> bool:
    """Whether a permit that is about this type says so as it must be said."""
    return type_ in permit.named or not must_be_named(type_, interaction)


def secrets(type_: str) -> tuple[Taken, ...]:
    """What is taken away from everybody of resources of a type, as a deny of fields would."""
    fields = _SECRETS.get(type_)
    return () if fields is None else ((f"gateway/secrets-of-{type_}", ALWAYS, fields),)


def warnings(rules: Iterable[Rule]) -> list[Problem]:
    """What should be known of permits that speak of these types, each at its place."""
    found = []
    for rule in rules:
        writing = rule.may & WRITING
        if rule.effect is not Effect.PERMIT or not writing:
            continue
        unnamed = _unnamed(rule, sorted(writing))
        if rule.resources is None:
            also = "nor creates of Patient, " if "Patient" in unnamed else ""
            said = (
                "'any' does not open writes of what rules the store (SearchParameter, Endpoint, Library …), "
                f"{also}which must be named"
            )
            found.append(rule.place.problem(f"rule '{rule.id}': {said}", warning=True))
        elif unnamed:
            said = f"a set does not open writes of {', '.join(unnamed)}, which must be named"
            found.append(rule.place.problem(f"rule '{rule.id}': {said}", warning=True))
        closed = sorted(SENDING & rule.named)
        if closed:
            said = f"writes of {', '.join(closed)} stay closed to everybody"
            found.append(rule.place.problem(f"rule '{rule.id}': {said}", warning=True))
    return found


def _unnamed(rule: Rule, writing: Sequence[Interaction]) -> list[str]:
    about = {"Patient", *INFRASTRUCTURE} if rule.resources is None else rule.resources
    return sorted(type_ for type_ in about if any(not opens(rule, type_, each) for each in writing))
