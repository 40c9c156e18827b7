"""Conditions, compiled for one caller: what a rule's or scope's words mean on a resource, and how a search says them.

Three-valued in effect: a condition that cannot be said (a missing claim, a claim of another type) makes a permit
false and a deny true, so it is compiled to Never or Always by the side it stands on.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

from authz.protocol.tokens import Caller
from gateway.fhir.compartment import compartment_test, may_be_in_compartment, narrows_exactly
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.matching import Criteria, CriteriaError, compile_criteria
from gateway.fhir.request import is_id
from gateway.policy.consent import ConsentCondition, ConsentQuestion
from gateway.policy.consent_condition import holds_by_consent
from gateway.policy.decision import Resource
from gateway.policy.facts import Fact, FactQuestion, FactValues
from gateway.policy.known import Known
from gateway.policy.rules import FACT, Claim, Network, Value, Where

_IN_THE_WAY = object()  # a value where the path goes on: it is not the claim, and it is not nothing
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPED = re.compile(r"([\\,|$])")


class Unsayable(Exception):
    """A condition that has no value for this caller: the claim is missing or of another type."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on resources of one type, for one caller.

    holds    whether a resource fulfils it
    patients the patients that it limits to; None when it does not limit by patient
    terms    search criteria that say the rest of it (all of it, when exact); never the patients
    exact    patients and terms together say all that holds() asks
    """

    holds: Callable[[Resource], bool]
    patients: frozenset[str] | None = None
    terms: tuple[SearchTerm, ...] = ()
    exact: bool = True


ALWAYS = Condition(lambda resource: True)
NEVER = Condition(lambda resource: False, frozenset())
"""What an empty set of values says: no patient is let through by it."""


def holds(condition: Condition, resource: Resource, *, on_error: bool) -> bool:
    """Whether the condition holds; a resource on which it cannot be evaluated counts as on_error."""
    try:
        return condition.holds(resource)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError):
        return on_error


def claim_value(claims: Mapping[str, object], claim: Claim) -> str | list[str] | None:
    """The value of a claim, None when it is absent or not of its declared type (attack case 284)."""
    value = _said(claims, claim)
    match claim.type:
        case "id":
            return value if isinstance(value, str) and is_id(value) else None
        case "codes":
            return value if isinstance(value, list) and all(isinstance(v, str) and v for v in value) else None
        case "reference":
            return value if isinstance(value, str) and _is_reference(value, claim.of) else None
        case _:
            return value if isinstance(value, str) and value else None


def is_said(claims: Mapping[str, object], claim: Claim) -> bool:
    """Whether the token says anything at all in the place of the claim, of its type or not."""
    return _said(claims, claim) is not None


def _said(claims: Mapping[str, object], claim: Claim) -> object:
    value: object = claims
    for step in claim.path:
        if not isinstance(value, Mapping):
            return None if value is None else _IN_THE_WAY
        value = value.get(step)
    return value


def _is_reference(text: str, of: tuple[str, ...]) -> bool:
    type_, slash, id_ = text.partition("/")
    return bool(slash) and is_id(id_) and (not of or type_ in of)


def claim_values(claims: Mapping[str, object], claim: Claim) -> frozenset[str] | None:
    """The values of a claim as a set; None when it is absent or not of its declared type."""
    value = claim_value(claims, claim)
    if value is None:
        return None
    return frozenset(value) if isinstance(value, list) else frozenset({value})


def in_networks(peer: str, networks: tuple[Network, ...], *, unknown: bool) -> bool:
    """Whether an address lies in one of the networks; IPv4 inside IPv6 is IPv4 (attack case 305).

    unknown is the answer about a peer that has no IP address.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return unknown
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks if network.version == address.version)


def compile_where(
    where: Where,
    type_: str,
    caller: Caller,
    claims: Mapping[str, Claim],
    bases: frozenset[str],
    *,
    in_doubt: bool,
    known: Known,
    facts: Mapping[str, Fact],
) -> Condition:
    """The condition of a rule on resources of this type. Raises Unsayable.

    in_doubt is what it says of a resource on which it cannot be told: False for what opens, True for what closes.
    known holds the values of facts, and what consents say.
    """
    parts: list[Condition] = []
    asking = _Asking(caller, claims, known, facts, in_doubt)
    if where.compartment is not None:
        membership = where.compartment.membership
        patients = asking.patients(where.compartment.patient)
        if patients is None:
            parts.append(_supposed(known, in_doubt))
        else:
            parts.append(compartment_condition(type_, patients, membership, bases, in_doubt=in_doubt))
    if type_ in where.match:
        if where.match[type_]:
            query = asking.filled(where.match[type_])
            if query is None:
                parts.append(_supposed(known, in_doubt))
            else:
                parts.append(NEVER if query == "" else criteria_condition(type_, query, bases))
    elif where.match:
        raise Unsayable(f"match says nothing about {type_}")
    if where.ids is not None:
        ids = where.ids
        parts.append(Condition(lambda resource: resource.get("id") in ids, exact=False))
    if where.labels is not None:
        # Never said in a search: stores differ on what _security:not means for what has no label.
        parts.append(Condition(where.labels.holds, exact=False))
    if where.fhirpath:
        parts.append(_by_statement(where, type_, asking))
    if where.any_of:
        parts.append(_one_of(where.any_of, asking, type_, bases))
    if where.consent is not None:
        # The last: what the others refuse asks for nobody's consents.
        parts.append(_by_consent(where.consent, type_, asking, bases))
    return both(parts)


@dataclass(frozen=True, slots=True)
class _Asking:
    """For whom conditions are compiled, and by what is known. in_doubt as in compile_where()."""

    caller: Caller
    claims: Mapping[str, Claim]
    known: Known
    facts: Mapping[str, Fact]
    in_doubt: bool

    def compiled(self, where: Where, type_: str, bases: frozenset[str]) -> Condition:
        """The condition of a where that stands within another."""
        return compile_where(
            where,
            type_,
            self.caller,
            self.claims,
            bases,
            in_doubt=self.in_doubt,
            known=self.known,
            facts=self.facts,
        )

    def patients(self, value: Value) -> frozenset[str] | None:
        """The patients of a value; None where they are supposed to be right. Raises Unsayable."""
        if value.fact is None:
            return _patients(value, self.caller, self.claims)
        found = self.fact(value.fact)
        if found is None:
            return None
        if self.in_doubt and not found.are_patients:
            raise Unsayable(f"not every value of the fact {value.fact} is a patient that is known")
        return found.patients

    def fact(self, name: str) -> FactValues | None:
        """The values of a fact; None where they are supposed to be right. Raises Unsayable."""
        fact = self.facts.get(name)
        if fact is None:
            raise Unsayable(f"no fact {name}")
        question = None
        if name not in self.known.facts:
            question = FactQuestion(fact, _filled(fact.query, self.caller, self.claims))
        found = self.known.fact(name, question)
        if found is None and not self.known.supposes:
            raise Unsayable(f"the values of the fact {name} are not known")
        return found

    def filled(self, query: str) -> str | None:
        """Criteria with claims and facts in them; '' where a fact has no value, None where it is supposed to be right.

        Raises Unsayable.
        """
        for name in FACT.findall(query):
            found = self.fact(name)
            if found is None:
                return None
            if self.in_doubt and not found.is_whole:
                raise Unsayable(f"not every value of the fact {name} is known")
            if not found.values:
                return ""
            texts = [_written(value, name) for value in sorted(found.values)]
            query = query.replace(f"{{facts.{name}}}", ",".join(texts))
        return _filled(query, self.caller, self.claims)


def _supposed(known: Known, in_doubt: bool) -> Condition:
    """What stands for a condition that cannot be told, while it is supposed to speak for the caller."""
    return Condition(lambda resource: known.supposes and not in_doubt, exact=False)


def _by_statement(where: Where, type_: str, asking: _Asking) -> Condition:
    statement, in_doubt = where.fhirpath.get(type_), asking.in_doubt
    if statement is None:
        raise Unsayable(f"fhirpath says nothing about {type_}")
    known = {name: claim_value(asking.caller.claims, claim) for name, claim in asking.claims.items()}
    return Condition(lambda resource: statement.holds(resource, known, in_doubt=in_doubt), exact=False)


def _by_consent(condition: ConsentCondition, type_: str, asking: _Asking, bases: frozenset[str]) -> Condition:
    actor = condition.actor
    if condition.actor_claim is not None:
        claim = asking.claims.get(condition.actor_claim)
        value = None if claim is None else claim_value(asking.caller.claims, claim)
        if not isinstance(value, str):
            raise Unsayable(f"the token has no {condition.actor_claim} that a consent can be for")
        actor = value
    purpose = asking.claims.get("purpose")
    purposes = None if purpose is None else claim_values(asking.caller.claims, purpose)
    question = ConsentQuestion(condition.scope, actor, purposes or frozenset(), type_)
    known, in_doubt = asking.known, asking.in_doubt
    known.judges_ask = True
    return Condition(
        lambda resource: holds_by_consent(condition, question, resource, known, bases, in_doubt=in_doubt),
        exact=False,
    )


def _one_of(ways: tuple[Where, ...], asking: _Asking, type_: str, bases: frozenset[str]) -> Condition:
    """The condition that holds when one of these does. What cannot be said opens no way, and closes every one."""
    found, in_doubt = [], asking.in_doubt
    for way in ways:
        try:
            found.append(asking.compiled(way, type_, bases))
        except Unsayable:
            if in_doubt:
                raise
    if not found:
        raise Unsayable("none of the conditions in any_of can be said")
    patients: frozenset[str] | None = frozenset()
    for each in found:
        patients = None if patients is None or each.patients is None else patients | each.patients
    return Condition(
        lambda resource: any(holds(each, resource, on_error=in_doubt) for each in found),
        patients,
        exact=False,
    )


def both(parts: list[Condition]) -> Condition:
    """The condition that holds when every part does."""
    if not parts:
        return ALWAYS
    if len(parts) == 1:
        return parts[0]
    limits = [part.patients for part in parts if part.patients is not None]
    patients = frozenset.intersection(*limits) if limits else None
    holders = [part.holds for part in parts]
    return Condition(
        lambda resource: all(holds(resource) for holds in holders),
        patients,
        tuple(term for part in parts for term in part.terms),
        all(part.exact for part in parts),
    )


def compartment_condition(
    type_: str, patients: frozenset[str], membership: str, bases: frozenset[str], *, in_doubt: bool = False
) -> Condition:
    """Belongs to one of these patients. An empty set of patients is an empty set: nothing belongs to nobody."""
    belongs: Callable[[Resource], bool] = (
        partial(may_be_in_compartment, patients=patients, membership=membership, bases=bases)
        if in_doubt
        else compartment_test(type_, patients, membership=membership, bases=bases)
    )
    return Condition(
        belongs,
        patients,
        exact=_narrows_exactly(type_, membership),
    )


_narrows_exactly = cache(narrows_exactly)


def criteria_condition(type_: str, query: str, bases: frozenset[str]) -> Condition:
    """Matches search criteria. Raises Unsayable when they cannot be evaluated."""
    try:
        compiled = _compiled(type_, query, bases)
    except CriteriaError as error:
        raise Unsayable(str(error)) from error
    return Condition(compiled.matches, None, compiled.terms)


_criteria: dict[tuple[str, str, frozenset[str]], Criteria] = {}


def _compiled(type_: str, query: str, bases: frozenset[str]) -> Criteria:
    found = _criteria.get((type_, query, bases))
    if found is None:
        found = compile_criteria(type_, query, bases=bases)
        if len(_criteria) > 10_000:
            _criteria.clear()
        _criteria[(type_, query, bases)] = found
    return found


def _patients(value: Value, caller: Caller, claims: Mapping[str, Claim]) -> frozenset[str]:
    if value.claim is None:
        return frozenset(value.words)
    claim = claims.get(value.claim)
    if claim is None:
        raise Unsayable(f"no claim {value.claim}")
    found = claim_value(caller.claims, claim)
    if found is not None:
        ids = [text.removeprefix("Patient/") for text in (found if isinstance(found, list) else [found])]
        if all(map(is_id, ids)):
            return frozenset(ids)
    raise Unsayable(f"the token has no {value.claim} of the declared type")


def _filled(query: str, caller: Caller, claims: Mapping[str, Claim]) -> str:
    """Criteria with their claims filled in, each as one literal value: what would split it is escaped."""

    def value(match: re.Match[str]) -> str:
        found = claim_value(caller.claims, claims[match[1]]) if match[1] in claims else None
        return _written(found, match[1])

    return _PLACEHOLDER.sub(value, query)


def _written(value: object, name: str) -> str:
    """A value as it stands in criteria. Raises Unsayable for one that would end it."""
    if not isinstance(value, str) or any(c in value for c in "&=%+;#{}"):
        raise Unsayable(f"there is no {name} that can stand in criteria")
    return _ESCAPED.sub(r"\\\1", value)
