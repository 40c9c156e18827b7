"""Decisions on operations: whether one is opened by name, and what of its answer, or its body, may pass.

An operation never shows what reads and searches of the same caller would not: each type that it may return has the
judge of read and of search, both. Only an export may open types beyond them, those that its rule names. Where several
permits open one operation the narrowest of them holds, so that no rule lends its types to another one's instance.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from authz.protocol.tokens import Caller
from gateway.fhir import search
from gateway.fhir.definitions import RESOURCE_TYPES, is_resource_type, search_parameters
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.operations import operation_of, typed_query
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import (
    Decision,
    Deny,
    Environment,
    Judge,
    LookingJudge,
    Nothing,
    Permit,
    Resource,
    Verdict,
)
from gateway.policy.obligations import NO_OBLIGATIONS, Obligations
from gateway.policy.rules import OperationAccess

_FORMATS = frozenset({"application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"})

_DOCUMENT_CRITERIA: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "type": lambda text: [("type", text)],
    "start": lambda text: [("date", f"ge{text}"), ("period", f"ge{text}")],
    "end": lambda text: [("date", f"le{text}"), ("period", f"le{text}")],
}
"""The search criteria that the parameters of $docref stand for."""


_LATEST = SearchTerm("_sort", "_sort", None, None, ("code", "-date"), "code,-date")
"""What $lastn goes by: which of the results with a code are the last ones tells their order."""


class Deciding(Protocol):
    """What is needed of the engine."""

    def decide(self, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision: ...
    def opening(self, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision: ...
    def accesses(self, rules: tuple[str, ...]) -> tuple[OperationAccess, ...]: ...
    def exporting(
        self,
        asked: FhirRequest,
        type_: str,
        rules: tuple[str, ...],
        caller: Caller,
        environment: Environment,
        criteria: tuple[SearchTerm, ...],
    ) -> tuple[Judge, ...] | None: ...


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
            return _everything(engine, asked, opened, caller, environment)
        case "export":
            return _export(engine, asked, opened, caller, environment)
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


def _everything(
    engine: Deciding, asked: FhirRequest, opened: Permit, caller: Caller, environment: Environment
) -> Decision:
    judges: dict[str, Judge] = {}
    owed: dict[str, Obligations] = {}
    for type_ in _open_types(RESOURCE_TYPES, engine.accesses(opened.rules)):
        found = _reading(engine, asked, type_, caller, environment)
        if found is not None:
            judges[type_], owed[type_] = found
    cut = _cut_to(asked, opened, judges, asked.terms, owed)
    if not isinstance(cut, Permit):
        return cut
    for type_ in cut.judges:
        dates = _dates_asked(asked, type_)
        if dates and _reading(engine, asked, type_, caller, environment, dates) is None:
            return _asks_hidden_dates(opened, type_)
    return cut


def _dates_asked(asked: FhirRequest, type_: str) -> tuple[SearchTerm, ...]:
    """The search parameters whose elements start, end and _since look at: which dates are meant, the store decides."""
    names = {term.name for term in asked.terms}
    codes = {"_lastUpdated"} if "_since" in names else set()
    if names & {"start", "end"}:
        codes |= {
            code for code, each in search_parameters(type_).items() if each.type == "date" and each.expression
        }
    return tuple(SearchTerm(code, code, None, None, (), "") for code in sorted(codes))


def _asks_hidden_dates(opened: Permit, type_: str) -> Deny:
    said = f"it asks for dates of {type_} that are hidden or rounded"
    return Deny(Reason.UNSUPPORTED_PARAMETER, opened.rules, said)


def _export(
    engine: Deciding, asked: FhirRequest, opened: Permit, caller: Caller, environment: Environment
) -> Decision:
    # A scope with a filter exports nothing: the store would collect beyond it, and its manifest counts what it collected.
    caller = replace(caller, scope=tuple(text for text in caller.scope if "?" not in text))
    if not any(scope.startswith("system/") for scope in caller.scope):
        return Deny(
            Reason.SCOPE_INSUFFICIENT,
            opened.rules,
            "an export is for clients with system scopes that have no filter",
        )
    if asked.id is None and not opened.unconditional:
        said = "an export without an instance needs a permit without 'where', and nothing that looks at resources"
        return Deny(Reason.INTERACTION_CLOSED, opened.rules, said)
    accesses = engine.accesses(opened.rules)
    named = all(access.types is not None for access in accesses)
    try:
        filters = [typed_query(term.text) for term in asked.terms if term.name == "_typeFilter"]
    except FhirError as error:
        return Deny(error.reason, opened.rules, error.diagnostics)
    if any(each.chain is not None or each.code.startswith("_") for _, found in filters for each in found):
        # A chain, an include or a sort asks more of the store than the type that is named.
        return Deny(
            Reason.UNSUPPORTED_PARAMETER, opened.rules, "_typeFilter takes plain criteria of its type"
        )
    formats = [term.text for term in asked.terms if term.name == "_outputFormat"]
    if any(text not in _FORMATS for text in formats):
        return Deny(Reason.INVALID_PARAMETER, opened.rules, "_outputFormat must be application/fhir+ndjson")
    judges: dict[str, Judge] = {}
    owed: dict[str, Obligations] = {}

    def opens(type_: str, criteria: tuple[SearchTerm, ...]) -> bool:
        if named:
            return engine.exporting(asked, type_, opened.rules, caller, environment, criteria) is not None
        return _reading(engine, asked, type_, caller, environment, criteria) is not None

    for type_ in _open_types(RESOURCE_TYPES, accesses):
        criteria = tuple(each for name, found in filters if name == type_ for each in found)
        if named:
            parts = engine.exporting(asked, type_, opened.rules, caller, environment, criteria)
            if parts is not None:
                judges[type_] = _all(parts)
            continue
        found = _reading(engine, asked, type_, caller, environment, criteria)
        if found is not None:
            judges[type_], owed[type_] = found
    kept = tuple(term for term in asked.terms if term.name not in ("_outputFormat", "_typeFilter"))
    cut = _cut_to(asked, opened, judges, kept, owed)
    if not isinstance(cut, Permit):
        return cut
    for type_ in cut.judges:
        dates = _dates_asked(asked, type_)
        if dates and not opens(type_, dates):
            return _asks_hidden_dates(opened, type_)
    if any(type_ not in cut.judges for type_, _ in filters):
        return Deny(Reason.NO_PERMIT, opened.rules, "_typeFilter asks for what this export does not hold")
    theirs = [(type_, search.encode_terms(criteria)) for type_, criteria in filters]
    written = _written_filters(theirs, _our_filters(accesses, cut.judges) if named else {})
    return replace(
        cut,
        request=cut.request.with_terms(tuple(_plain("_typeFilter", text) for text in written)),
        jobs_at_once=min(access.jobs_at_once for access in accesses),
    )


def _our_filters(accesses: Sequence[OperationAccess], types: Iterable[str]) -> dict[str, list[str]]:
    said = {type_: [a.type_filter[type_] for a in accesses if type_ in a.type_filter] for type_ in types}
    return {type_: filters for type_, filters in said.items() if filters}


def _written_filters(theirs: list[tuple[str, str]], ours: Mapping[str, list[str]]) -> list[str]:
    """What the store is asked: of one type several filters are alternatives, so ours stand within each of theirs."""
    written = [f"{type_}?{'&'.join((query, *ours.get(type_, ())))}" for type_, query in theirs]
    spoken = {type_ for type_, _ in theirs}
    written += [f"{type_}?{'&'.join(queries)}" for type_, queries in ours.items() if type_ not in spoken]
    return written


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
    judge = _all((opened.judge, decision.judge))
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


def _reading(
    engine: Deciding,
    asked: FhirRequest,
    type_: str,
    caller: Caller,
    environment: Environment,
    criteria: tuple[SearchTerm, ...] = (),
) -> tuple[Judge, Obligations] | None:
    """The judge of what the caller may both read and search of a type, and what both oblige to; None when it is closed."""
    judges, owed = [], NO_OBLIGATIONS
    for interaction, terms in ((Interaction.SEARCH, criteria), (Interaction.READ, ())):
        one = replace(
            asked, method="GET", interaction=interaction, type=type_, id=None, operation=None, terms=terms
        )
        decision = engine.decide(one, caller, environment)
        if not isinstance(decision, Permit) or decision.judge is None:
            return None
        judges.append(decision.judge)
        owed = owed.and_those_of(decision.obligations)
    return _all(judges), owed


def _open_types(types: Iterable[str], accesses: Sequence[OperationAccess]) -> list[str]:
    limits = [access.types for access in accesses if access.types is not None]
    return [type_ for type_ in types if all(type_ in limit for limit in limits)]


def _cut_to(
    asked: FhirRequest,
    opened: Permit,
    judges: dict[str, Judge],
    terms: tuple[SearchTerm, ...],
    owed: Mapping[str, Obligations],
) -> Decision:
    """The request with _type cut to the types that are open; what was asked for and is not is left out."""
    wished = [term.text.split(",") for term in terms if term.name == "_type"]
    if any(not is_resource_type(type_) for type_ in wished[0]) if wished else False:
        return Deny(Reason.INVALID_PARAMETER, opened.rules, "_type names resource types")
    open_ = [type_ for type_ in sorted(judges) if not wished or type_ in wished[0]]
    if not open_:
        return Deny(Reason.NO_PERMIT, opened.rules, f"no type of ${asked.operation} is open to the caller")
    kept = tuple(term for term in terms if term.name != "_type")
    narrowed = replace(asked, terms=(*kept, _plain("_type", ",".join(open_))))
    obligations = opened.obligations
    for type_ in open_:
        obligations = obligations.and_those_of(owed.get(type_, NO_OBLIGATIONS))
    judged = {type_: judges[type_] for type_ in open_}
    return replace(opened, request=narrowed, judges=judged, obligations=obligations)


def _plain(name: str, text: str) -> SearchTerm:
    return search.parse_operation_terms([(name, text)])[0]


def _all(judges: Sequence[Judge]) -> Judge:
    """The judge who shows what every one of them shows, and of it only what is seen by every one."""

    def verdict(resource: Resource) -> Verdict:
        rules: dict[str, None] = {}
        seen: object = resource
        for judge in judges:
            found = judge(resource)  # the whole of it: what is hidden counts, too
            if not found.shown:
                return found
            rules.update(dict.fromkeys(found.rules))
            if found.seen is not None:
                seen = found.seen if seen is resource else _common(seen, found.seen)
        if not isinstance(seen, Mapping) or seen.get("resourceType") != resource.get("resourceType"):
            return Verdict(False, tuple(rules), Reason.POLICY_DENIED)
        return Verdict(True, tuple(rules), seen=None if seen is resource else seen)

    looking = [judge for judge in judges if isinstance(judge, LookingJudge)]
    if len(looking) < len(judges):
        return verdict
    return LookingJudge(verdict, frozenset({"resourceType"}).union(*(judge.looks_at for judge in looking)))


_NOTHING = object()


def _common(one: object, other: object) -> object:
    """What two views of one resource both show; lists of which one view lost an item are left out."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = ((name, _common(one[name], other[name])) for name in one if name in other)
        return {name: value for name, value in pairs if value is not _NOTHING}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        items = [_common(*pair) for pair in zip(one, other, strict=True)]
        return _NOTHING if any(item is _NOTHING for item in items) else items
    return one if type(one) is type(other) and one == other else _NOTHING
