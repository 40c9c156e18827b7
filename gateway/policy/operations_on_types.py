"""Decisions on $everything and $export: operations that answer with many types, each cut to what is open of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from authz.protocol.tokens import Caller
from gateway.fhir import search
from gateway.fhir.definitions import RESOURCE_TYPES, is_resource_type, search_parameters
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.operations import typed_query
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.deciding import Deciding
from gateway.policy.decision import Decision, Deny, Environment, Judge, Permit
from gateway.policy.obligations import NO_OBLIGATIONS, Obligations
from gateway.policy.rules import OperationAccess
from gateway.policy.unanimous import unanimous

_FORMATS = frozenset({"application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"})


def decide_everything(
    engine: Deciding, asked: FhirRequest, opened: Permit, caller: Caller, environment: Environment
) -> Decision:
    """The decision on $everything, which opened says is open: each type as it is read and searched."""
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


def decide_export(
    engine: Deciding, asked: FhirRequest, opened: Permit, caller: Caller, environment: Environment
) -> Decision:
    """The decision on $export, which opened says is open: the types that its rules name, else as they are read."""
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
                judges[type_] = unanimous(parts)
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
    return unanimous(judges), owed


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
