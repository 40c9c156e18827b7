"""Conditional create, update, patch and delete: the gateway finds the resource itself and writes to it by id.

FHIR R4 3.1.0.8.1, 3.1.0.4.3, 3.1.0.9.2, 3.1.0.5.1. A store is never asked to write conditionally: it would look for
the resource among all that it holds, and its answer would tell what there is. The criteria are a search of the
caller's, narrowed like any other, and what it finds is judged; so nothing is found that the caller could not find.
"""

from dataclasses import dataclass, replace
from typing import Any

from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir import request_target, resource, search
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.matching import CriteriaError, compile_criteria
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import settle, whole_resource
from gateway.proxy.kept_consents import LOOKED_AT, is_kept
from gateway.proxy.refusals import denied
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.conditional_turns import ConditionalTurns
from gateway.proxy.writes.stored_version import NO_CACHE
from gateway.settings import Upstream

_CONDITIONAL = frozenset({Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})


@dataclass(frozen=True, slots=True)
class Found:
    """The one resource that criteria match, as the search gave it. version is None where it names none."""

    id: str
    version: str | None
    raw: bytes


def criteria(asked: FhirRequest, http: HttpRequest) -> tuple[SearchTerm, ...]:
    """The criteria of a conditional write; none for any other request. Raises FhirError for what is no search."""
    if asked.interaction in _CONDITIONAL and asked.id is None:
        return asked.terms
    if asked.interaction is not Interaction.CREATE or "if-none-exist" not in http.headers:
        return ()
    text = http.headers["if-none-exist"].strip(" \t").removeprefix("?")
    terms = search.parse_terms(search.query_pairs(text), asked.type)
    search.check_together(terms)
    if not terms or any(term.code in ("_count", "_sort") for term in terms):
        raise FhirError(Reason.INVALID_PARAMETER, "If-None-Exist takes search criteria, and at least one")
    return terms


def to_the_keeper(
    upstream: Upstream, asked: FhirRequest, terms: tuple[SearchTerm, ...], trail: Trail
) -> dict[str, str]:
    """Further headers of a create whose criteria found nothing, for a keeper who takes it while that still holds.

    That is our own keeper of consents alone: it answers 412 where something was written meanwhile that they match. For
    who may find nothing at all no search was made, and nothing that is written makes a difference.
    """
    if not terms or not trail.looked_at or not is_kept(upstream, asked.type):
        return {}
    return {"if-none-exist": search.encode_terms(terms), LOOKED_AT: trail.looked_at}


async def find(
    http: HttpRequest,
    trail: Trail,
    asked: FhirRequest,
    terms: tuple[SearchTerm, ...],
    caller: Caller,
    engine: Engine,
    environment: Environment,
    *,
    upstream: Upstream,
    client: UpstreamClient,
    turns: ConditionalTurns | None = None,
) -> Found | None:
    """The one resource that the criteria match among those that the caller may find; None when none does.

    With turns it is looked for when nobody else is about to write what the same search finds; whoever handles the request
    ends the turn of the trail. Raises FhirError: MULTIPLE_MATCHES, VERSION_CONFLICT where others take too long, and what
    a search of the caller's would be refused by.
    """
    trail.looked_at = ""
    wanted = FhirRequest(method="GET", interaction=Interaction.SEARCH, type=asked.type, terms=terms)
    decision = await trail.knowledge.decided(lambda: engine.decide(wanted, caller, environment))
    match decision:
        case Deny():
            trail.explanation = f"a conditional write needs the right to search: {decision.explanation}"
            raise denied(decision)
        case Nothing():
            return None
        case Permit():
            pass
    asking = request_target.fit_for_the_store(decision.request)
    target = request_target.upstream_target(asking)
    method, form = ("POST", request_target.upstream_form(asking)) if asking.posted else ("GET", None)
    # Who keeps them here looks again while it writes.
    if turns is not None and not is_kept(upstream, asked.type):
        trail.turn = await turns.take(f"{target}\n{'' if form is None else form.decode()}")
    trail.upstream.append(f"{method} {target}")
    sent = headers.to_upstream(http, upstream, trail.interaction_id) | NO_CACHE
    sent |= {} if form is None else {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.send(method, target, sent, form)
    trail.looked_at = answer.headers.get(LOOKED_AT, "")
    bundle = await whole_resource(answer, upstream.max_resource)
    for entry in resource.objects(bundle.get("entry")):
        value = entry.get("resource")
        if isinstance(value, dict):
            await settle(trail, decision, value)
    return _one(bundle, decision, terms, frozenset((*upstream.bases, upstream.base)))


def _one(
    bundle: dict[str, Any], permit: Permit, terms: tuple[SearchTerm, ...], bases: frozenset[str]
) -> Found | None:
    """The match of a searchset. A store that skips a criterion finds too much: each is evaluated here as well."""
    try:
        matches = compile_criteria(str(permit.request.type), search.encode_terms(terms), bases=bases).matches
    except CriteriaError as error:
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER, f"a conditional write cannot be found by this: {error}"
        ) from error
    entries = bundle.get("entry", [])
    if bundle["resourceType"] != "Bundle" or not isinstance(entries, list) or permit.judge is None:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a Bundle")
    found: dict[str, Found] = {}
    for entry in resource.objects(entries):
        value = entry.get("resource")
        if not isinstance(value, dict) or value.get("resourceType") != permit.request.type:
            continue
        id_, meta = value.get("id"), value.get("meta")
        if not isinstance(id_, str) or not is_id(id_) or not permit.judge(value).shown:
            continue
        if not matches(value):
            continue
        version = meta.get("versionId") if isinstance(meta, dict) else None
        found[id_] = Found(id_, version if isinstance(version, str) else None, resource.write_resource(value))
    is_part = any(link.get("relation") == "next" for link in resource.objects(bundle.get("link")))
    if len(found) > 1 or is_part:
        raise FhirError(Reason.MULTIPLE_MATCHES, "name one resource: by further criteria, or by its id")
    return next(iter(found.values()), None)


def narrowed(asked: FhirRequest, found: Found | None, http: HttpRequest) -> FhirRequest:
    """The write to the one resource that was found; a create where an update found none (FHIR R4 3.1.0.4.3).

    Raises FhirError(NOT_FOUND) where none was found for a patch or delete, or for an update of a named version.
    """
    if found is not None:
        return replace(asked, id=found.id, terms=())
    if asked.interaction is not Interaction.UPDATE or "if-match" in http.headers:
        raise FhirError(Reason.NOT_FOUND)
    return replace(asked, method="POST", interaction=Interaction.CREATE, id=None, terms=())
