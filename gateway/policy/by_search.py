"""Permits whose conditions only a search can tell: open to reads and searches that prove that they were narrowed.

Such a permit holds for no resource by itself. It counts where it is the only way in, and the request goes as a search
with its criteria; the proof is the store's own self link. Beside other permits it opens nothing, since a search cannot
be narrowed by one of two ways in; nor does it open what is no search: versions, histories, writes, operations.
"""

from dataclasses import replace

from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import Reason
from gateway.fhir.search import make_term
from gateway.policy.conditions import Condition
from gateway.policy.decision import BySearch, Deny, Permit
from gateway.policy.layers import Layers, ids, show_nothing

_SEARCHED = frozenset({Interaction.READ, Interaction.SEARCH})


def parted(layers: Layers, interaction: Interaction) -> tuple[Layers, bool] | Deny:
    """The layers as they count, and whether what they say needs the proof of a search."""
    telling = [(name, condition) for name, condition in layers.permits if condition.proof is not None]
    if not telling:
        return layers, False
    others = tuple(each for each in layers.permits if each[1].proof is None)
    if others:
        return replace(layers, permits=others), False
    name, condition = telling[0]
    if condition.proof is None or len(telling) > 1 or interaction not in _SEARCHED:
        said = "only a search can tell the conditions, by one permit at a time"
        return Deny(Reason.TOLD_BY_SEARCH, ids(layers.permits), said, layers.conceal)
    proof = condition.proof
    proven = Condition(proof.holds, condition.patients, (*condition.terms, *proof.terms), proof.exact)
    return replace(layers, permits=((name, proven),)), True


def as_search(permit: Permit, asked: FhirRequest, added: tuple[SearchTerm, ...]) -> Permit:
    """The permit of a read that goes as a search for the one resource."""
    terms = (make_term("_id", [asked.id or ""]), *added)
    search = replace(asked, interaction=Interaction.SEARCH, id=None, terms=(*asked.terms, *terms))
    said = tuple(f"{term.name}={term.text}" for term in terms)
    return proven(replace(permit, request=search, added=said), unwraps=True)


def proven(permit: Permit, *, unwraps: bool = False) -> Permit:
    """The permit with its judge behind the proof: whoever does not ask for that is shown nothing."""
    if permit.judge is None:
        return permit
    return replace(permit, judge=show_nothing, by_search=BySearch(permit.added, permit.judge, unwraps))
