"""The scope layer: what the token's SMART scopes allow, each scope for itself (SMART App Launch 2.2, case group Q).

A scope keeps its level, type, letters and filter; letters of one are never joined to the filter of another. A scope
whose filter cannot be evaluated grants nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from authz.protocol.scopes import Scope, clinical, parse_scope
from authz.protocol.tokens import Caller
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment, search_parameter
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import Reason
from gateway.fhir.whose import names_another
from gateway.policy.asking import Unsayable
from gateway.policy.conditions import Condition, all_of, compartment_condition, criteria_condition

LETTERS = {
    Interaction.READ: "r",
    Interaction.VREAD: "r",
    Interaction.HISTORY_INSTANCE: "r",
    Interaction.HISTORY_TYPE: "s",
    Interaction.HISTORY_SYSTEM: "s",
    Interaction.SEARCH: "s",
    Interaction.CREATE: "c",
    Interaction.UPDATE: "u",
    Interaction.PATCH: "u",
    Interaction.DELETE: "d",
}
"""The letter that each interaction needs (S-S01). Batches and operations have none of their own."""

_WRITING = frozenset("cud")


class ScopeRefusal(Exception):
    """The token's scopes cannot be used."""

    def __init__(self, reason: Reason, explanation: str) -> None:
        super().__init__(explanation)
        self.reason = reason
        self.explanation = explanation


@dataclass(frozen=True, slots=True)
class Standing:
    """On whose behalf the token speaks: one context, with the patient where it is a patient's."""

    context: str  # patient | user | system
    patient: str | None
    scopes: tuple[Scope, ...]


def standing(caller: Caller, bases: frozenset[str]) -> Standing:
    """The standing of a caller. Raises ScopeRefusal: no clinical scope, mixed contexts, no or a doubtful patient."""
    scopes = clinical(caller.scope)
    contexts = {scope.context for scope in scopes}
    if not contexts:
        raise ScopeRefusal(Reason.SCOPE_INSUFFICIENT, "the token has no clinical scope")
    if len(contexts) > 1:
        raise ScopeRefusal(Reason.MIXED_CONTEXTS, f"contexts {', '.join(sorted(contexts))} in one token")
    context = contexts.pop()
    if context != "patient":
        return Standing(context, None, scopes)
    patient = caller.claims.get("patient")
    if not isinstance(patient, str) or not is_id(patient):
        raise ScopeRefusal(Reason.NO_PATIENT_CONTEXT, "the claim patient is not one FHIR id")
    _check_person(caller.claims.get("fhirUser"), patient, bases)
    return Standing(context, patient, scopes)


def _check_person(fhir_user: object, patient: str, bases: frozenset[str]) -> None:
    """A patient who signed in reads the own record (case 286)."""
    if fhir_user is None:
        return
    if not isinstance(fhir_user, str):
        raise ScopeRefusal(Reason.NO_PATIENT_CONTEXT, "the claim fhirUser is not a reference")
    reference = fhir_user
    if "://" in fhir_user:
        base = next((base for base in bases if fhir_user.startswith(base + "/")), None)
        if base is None:
            raise ScopeRefusal(Reason.NO_PATIENT_CONTEXT, "the claim fhirUser is on another server")
        reference = fhir_user[len(base) + 1 :]
    type_, _, id_ = reference.partition("/")
    if type_ == "Patient" and id_ != patient:
        raise ScopeRefusal(
            Reason.NO_PATIENT_CONTEXT, "the claims fhirUser and patient name different patients"
        )


def conditions(
    who: Standing, interaction: Interaction, type_: str, bases: frozenset[str]
) -> list[tuple[str, Condition]]:
    """The scopes that allow this interaction on this type, each with its condition; empty when none does."""
    letter = LETTERS.get(interaction)
    found = []
    for scope in who.scopes:
        if letter is None or letter not in scope.letters or scope.type not in ("*", type_):
            continue
        # Stricter than SMART: what also names another patient is seen, and neither made, changed nor deleted.
        is_writing = letter in _WRITING
        parts = []
        if who.patient is not None and (type_ == "Patient" or patient_compartment(type_)):
            membership = "all" if is_writing else "spec"
            parts.append(compartment_condition(type_, frozenset({who.patient}), membership, bases))
        if who.patient is not None and is_writing:
            parts.append(_naming_nobody_else(who.patient, bases))
        if scope.query:
            try:
                parts.append(criteria_condition(type_, scope.query, bases))
            except Unsayable:
                continue
        found.append((f"scope/{scope.text}", all_of(parts)))
    return found


def _naming_nobody_else(patient: str, bases: frozenset[str]) -> Condition:
    own = frozenset({patient})
    return Condition(lambda resource: not names_another(resource, own, bases), exact=False)


def needs_shared(who: Standing, type_: str) -> bool:
    """Whether this type is outside the record of a patient, so that only data said to be shared is open to it."""
    return who.patient is not None and type_ != "Patient" and not patient_compartment(type_)


def grantable(text: str) -> bool:
    """Whether the gateway can enforce this clinical scope exactly; what it cannot is never granted (S-S08, S-S09)."""
    scope = parse_scope(text)
    if scope is None:
        return False
    if scope.type != "*" and scope.type not in RESOURCE_TYPES:
        return False
    if not scope.query:
        return True
    if any(mark in part.partition("=")[0] for part in scope.query.split("&") for mark in ":.%"):
        return False  # SMART 2.2 has modifiers and chains in scopes as experiments: one plain name has one meaning
    types: Iterable[str] = RESOURCE_TYPES if scope.type == "*" else (scope.type,)
    code = scope.query.partition("=")[0]
    defined = [type_ for type_ in types if search_parameter(type_, code) is not None]
    if not defined:
        return False
    try:
        for type_ in defined:
            criteria_condition(type_, scope.query, frozenset())
    except Unsayable:
        return False
    return True
