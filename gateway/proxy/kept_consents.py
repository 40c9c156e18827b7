"""What the passage must know where a base keeps its consents here, and everything else at its store.

The store knows nothing of these consents, and what it calls Consent counts for nothing. So a search is of consents
alone or of everything else, a transaction writes none, and no Consent of the store's own goes out.
"""

from dataclasses import replace

from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.settings import Upstream, UpstreamProfile

LOOKED_AT = "consent-number"
"""The header that says of a search, and to a create with If-None-Exist, which consents were there to be found."""
_OURS = UpstreamProfile()
_ALONE = frozenset({"_has", "_include", "_revinclude", "_filter", "_list", "_text", "_content"})
_ALLOW = (("Allow", "GET, HEAD, OPTIONS, PATCH, PUT"),)


def is_kept(upstream: Upstream, type_: str | None) -> bool:
    """Whether resources of this type are kept by the gateway, and not by the store."""
    return type_ == "Consent" and upstream.consents is not None and upstream.consents.kept_here


def profile_of(upstream: Upstream, type_: str | None) -> UpstreamProfile:
    """What the keeper of this type does in its own way: the store's profile, or ours."""
    return _OURS if is_kept(upstream, type_) else upstream.profile


def check(upstream: Upstream, asked: FhirRequest) -> None:
    """Raise FhirError for what cannot be asked where consents are kept here: CONSENT_KEPT_HERE, METHOD_NOT_ALLOWED."""
    if upstream.consents is None or not upstream.consents.kept_here:
        return
    if asked.type != "Consent":
        _check_of_others(asked)
        return
    if asked.interaction is Interaction.DELETE:
        raise FhirError(
            Reason.METHOD_NOT_ALLOWED,
            "a consent is never deleted: revoke it, by an update to the status inactive, or entered-in-error",
            headers=_ALLOW,
        )
    if asked.interaction is Interaction.HISTORY_TYPE:
        raise FhirError(Reason.CONSENT_KEPT_HERE, "ask for the history of one consent")
    if asked.interaction is Interaction.OPERATION and asked.operation != "validate":
        raise FhirError(Reason.CONSENT_KEPT_HERE, f"consents have no operation ${asked.operation}")
    for term in asked.terms:
        if term.code in _ALONE or term.chain is not None:
            raise FhirError(
                Reason.CONSENT_KEPT_HERE,
                f"'{term.code}' reads other types: search consents alone, and the others by what you find",
            )


def _check_of_others(asked: FhirRequest) -> None:
    for term in asked.terms:
        parts = term.text.split(":") if term.code in ("_include", "_revinclude") else term.name.split(":")
        names = (parts[0], parts[-1]) if term.code in ("_include", "_revinclude") else parts[1:]
        if any(name.partition(".")[0] == "Consent" for name in names):
            raise FhirError(
                Reason.CONSENT_KEPT_HERE, f"'{term.code}' names Consent: search consents by themselves"
            )


def check_transaction(upstream: Upstream, asked: FhirRequest) -> None:
    """Raise FhirError(CONSENT_KEPT_HERE) for an entry that writes a consent: the store cannot undo it with the rest."""
    if is_kept(upstream, asked.type) and asked.method != "GET":
        raise FhirError(
            Reason.CONSENT_KEPT_HERE, "a transaction writes no consent: send it by itself, or in a batch"
        )


def without_the_stores(upstream: Upstream, asked: FhirRequest, permit: Permit) -> Permit:
    """The permit under which no Consent that the store brings along, or an operation gives, is shown.

    Raises FhirError(CONSENT_KEPT_HERE) where the search as it was narrowed names Consent.
    """
    if upstream.consents is None or not upstream.consents.kept_here or asked.type == "Consent":
        return permit
    # What policies added: the store would look among consents that count for nothing.
    _check_of_others(permit.request)
    included = permit.included
    if included is not None and "Consent" in included.judges:
        included = replace(included, judges={k: v for k, v in included.judges.items() if k != "Consent"})
    judges = {type_: judge for type_, judge in permit.judges.items() if type_ != "Consent"}
    if included is permit.included and len(judges) == len(permit.judges):
        return permit
    return replace(permit, included=included, judges=judges)
