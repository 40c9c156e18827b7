"""Decisions on operations: whether one is opened by name, and what of its answer, or its body, may pass.

An operation never shows what reads and searches of the same caller would not: each type that it may return has the
judge of read and of search, both. Only an export may open types beyond them, those that its rule names. Where several
permits open one operation the narrowest of them holds, so that no rule lends its types to another one's instance.

Here are those that are another interaction by another name; the ones that answer with many types are in
operations_on_types.py.
"""

from collections.abc import Callable
from dataclasses import replace

from authz.protocol.tokens import Caller
from gateway.fhir import search
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.operations import operation_of
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.deciding import Deciding
from gateway.policy.decision import Decision, Deny, Environment, Nothing, Permit
from gateway.policy.operations_on_types import decide_everything, decide_export
from gateway.policy.unanimous import unanimous

_DOCUMENT_CRITERIA: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "type": lambda text: [("type", text)],
    "start": lambda text: [("date", f"ge{text}"), ("period", f"ge{text}")],
    "end": lambda text: [("date", f"le{text}"), ("period", f"le{text}")],
}
"""The search criteria that the parameters of $docref stand for."""


_LATEST = SearchTerm("_sort", "_sort", None, None, ("code", "-date"), "code,-date")
"""What $lastn goes by: which of the results with a code are the last ones tells their order."""


def decide(engine: Deciding, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision:
    """The decision on an operation. Never raises for what a caller can send."""
    if asked.sealed is not None:
        said = "a job or file of an export is known by what is sealed in its URL, to its owner"
        return Deny(Reason.NOT_FOUND, (), said, True)
    operation = operation_of(asked)
    if operation is None:
        return Deny(
            Reason.INTERACTION_CLOSED, (), f"${asked.operation} is not an operation that is decided here"
        )
    opened = engine.opening(asked, caller, environment)
    if not isinstance(opened, Permit):
        return opened
    if asked.operation != "lastn":
        unknown = [term.name for term in asked.terms if term.name not in operation.parameters]
        names = [term.name for term in asked.terms if term.name != "_typeFilter"]
        if unknown or len(set(names)) != len(names):
            said = f"${asked.operation} takes {', '.join(sorted(operation.parameters)) or 'no parameter'}, once each"
            return Deny(Reason.UNSUPPORTED_PARAMETER, opened.rules, said)
    match asked.operation:
        case "consent-decision":
            return opened  # of the store only the patient is read
        case "everything":
            return decide_everything(engine, asked, opened, caller, environment)
        case "export":
            return decide_export(engine, asked, opened, caller, environment)
        case "validate":
            stored = as_stored(asked)
            if stored is None:
                said = "'mode' is create at a type, update or delete at an instance"
                return Deny(Reason.INVALID_PARAMETER, opened.rules, said)
            return _also(engine.decide(stored, caller, environment), opened, asked)
        case "lastn":
            own = tuple(term for term in asked.terms if term.name == "max")
            criteria = tuple(term for term in asked.terms if term.name != "max")
            return _searched(engine, asked, opened, (*criteria, _LATEST), own, caller, environment)
        case _:
            return _documents(engine, asked, opened, caller, environment)


def as_stored(asked: FhirRequest) -> FhirRequest | None:
    """The write that a $validate asks about; None for one that its mode and place do not say (FHIR R4 $validate)."""
    at_instance = asked.id is not None
    mode = next(
        (term.text for term in asked.terms if term.name == "mode"), "update" if at_instance else "create"
    )
    found = _MODES.get((mode, at_instance))
    if found is None:
        return None
    method, interaction = found
    return replace(asked, method=method, interaction=interaction, operation=None, terms=())


_MODES = {
    ("create", False): ("POST", Interaction.CREATE),
    ("update", True): ("PUT", Interaction.UPDATE),
    ("delete", True): ("DELETE", Interaction.DELETE),
}


def _documents(
    engine: Deciding, asked: FhirRequest, opened: Permit, caller: Caller, environment: Environment
) -> Decision:
    patients = [term.text for term in asked.terms if term.name == "patient"]
    if not patients:
        return Deny(Reason.INVALID_PARAMETER, opened.rules, "$docref needs 'patient', the id of one")
    pairs = [("patient", f"Patient/{patients[0].removeprefix('Patient/')}")]
    for term in asked.terms:  # what the other parameters look at must be seen, as that of a search
        if term.name in _DOCUMENT_CRITERIA:
            pairs += _DOCUMENT_CRITERIA[term.name](term.text)
    try:
        criteria = search.parse_terms(pairs, asked.type)
    except FhirError as error:
        return Deny(error.reason, opened.rules, error.diagnostics)
    if len(criteria[0].values) != 1:
        return Deny(Reason.INVALID_PARAMETER, opened.rules, "$docref needs the id of one patient")
    decision = _searched(engine, asked, opened, criteria, (), caller, environment)
    return replace(decision, request=asked) if isinstance(decision, Permit) else decision


def _searched(
    engine: Deciding,
    asked: FhirRequest,
    opened: Permit,
    criteria: tuple[SearchTerm, ...],
    own: tuple[SearchTerm, ...],
    caller: Caller,
    environment: Environment,
) -> Decision:
    """An operation that is a search by another name: narrowed as one, every entry judged as one."""
    found = replace(asked, interaction=Interaction.SEARCH, operation=None, terms=criteria)
    decision = _also(engine.decide(found, caller, environment), opened, asked)
    if not isinstance(decision, Permit):
        return decision
    # The store says nothing on how it read an operation's parameters: the judge decides alone, totals stay away.
    terms = tuple(term for term in decision.request.terms if term is not _LATEST)
    narrowed = replace(asked, terms=(*terms, *own))
    return replace(decision, request=narrowed, added=(), needed=frozenset(), exact=False)


def _also(decision: Decision, opened: Permit, asked: FhirRequest) -> Decision:
    """What another interaction would be decided, with the operation's own judge beside its judge."""
    if isinstance(decision, Deny | Nothing):
        return decision
    if decision.judge is None or opened.judge is None or asked.type is None:
        return Deny(Reason.INTERACTION_CLOSED, opened.rules, "nothing judges this operation")
    judge = unanimous((opened.judge, decision.judge))
    request = decision.request if asked.operation == "lastn" else asked
    rules = tuple(dict.fromkeys((*opened.rules, *decision.rules)))
    obligations = opened.obligations.and_those_of(decision.obligations)
    return replace(
        decision,
        request=request,
        judge=judge,
        judges={asked.type: judge},
        rules=rules,
        obligations=obligations,
    )
