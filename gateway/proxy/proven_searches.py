"""Searches that must prove that they were narrowed, and reads that go as one of them.

The judge cannot tell what only a search tells, so nothing is shown before the store's self link has named every
criterion that was added, from a store that refuses what it does not know and whose index is never behind.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import objects
from gateway.policy.decision import Permit
from gateway.proxy.answers.self_links import echoes
from gateway.settings import SelfLink, UpstreamProfile


def provable(permit: Permit, profile: UpstreamProfile) -> Permit:
    """The permit with the judge that counts once the proof is there. Raises FhirError where no proof can come."""
    if permit.opened:
        _check_opened(permit, profile)
    if permit.by_search is None:
        return permit
    if (
        not profile.index_is_immediate
        or not profile.strict_handling
        or profile.self_link is not SelfLink.CHECKED
    ):
        raise FhirError(Reason.TOLD_BY_SEARCH, "the searches of this store prove nothing")
    if permit.request.posted and profile.self_link_of_forms is not SelfLink.CHECKED:
        raise FhirError(
            Reason.TOLD_BY_SEARCH, "the search must be sent by GET: this store proves nothing of forms"
        )
    return replace(permit, judge=permit.by_search.judge)


def _check_opened(permit: Permit, profile: UpstreamProfile) -> None:
    """Raise FhirError unless the store will say whether it took what a policy opened by name."""
    said = profile.self_link_of_forms if permit.request.posted else profile.self_link
    if profile.self_link is not SelfLink.CHECKED or said is not SelfLink.CHECKED:
        what = "its forms" if permit.request.posted else "its searches"
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER,
            f"'{min(permit.opened)}' is closed: this store does not say of {what} what it took",
        )


def the_one(bundle: Mapping[str, Any], permit: Permit, type_: str, id_: str) -> dict[str, Any]:
    """The resource that a read as a search found. Raises FhirError(NOT_FOUND) for none, else for what proves nothing."""
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "searchset":
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a Bundle of the type searchset")
    links = [link for link in objects(bundle.get("link")) if link.get("relation") == "self"]
    urls = [str(link.get("url")) for link in links]
    if not urls or not all(echoes(url, permit.added) for url in urls):
        raise FhirError(Reason.NARROWING_IGNORED)
    found = [entry.get("resource") for entry in objects(bundle.get("entry")) if _is_match(entry)]
    if not found:
        raise FhirError(Reason.NOT_FOUND)
    one = found[0]
    if (
        len(found) > 1
        or not isinstance(one, dict)
        or (one.get("resourceType"), one.get("id")) != (type_, id_)
    ):
        raise FhirError(Reason.NARROWING_IGNORED)
    return one


def _is_match(entry: Mapping[str, Any]) -> bool:
    search = entry.get("search")
    return (search.get("mode", "match") if isinstance(search, dict) else "match") != "outcome"
