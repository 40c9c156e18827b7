"""Searches of the members of a List (`_list=…`): open once a read of the List by the same caller has shown it.

What is found is an answer about the List: that a resource stands in it. So who may not read the List finds nothing, as
one does where there is no such List, and a member is found only where the List as this caller reads it names it. What
else of the List is hidden makes no difference. The members are judged one by one, as ever.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from gateway.fhir import bundle_graph
from gateway.policy.decision import ByList, Judge, Permit, Resource, Verdict
from gateway.policy.layers import show_nothing


def waiting(permit: Permit, list_id: str | None) -> Permit:
    """The permit with its judge behind the read of the List: whoever does not ask for that is shown nothing."""
    if permit.judge is None or list_id is None:
        return permit
    return replace(permit, judge=show_nothing, by_list=ByList(list_id, permit.judge), exact=False)


def members_of(seen: Mapping[str, Any], bases: Collection[str]) -> frozenset[str]:
    """What a List names as its items, as 'Type/id'; seen is the List as the caller reads it."""
    entries = seen.get("entry")
    items = (
        [entry.get("item") for entry in entries if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    listed = {"resourceType": "List", "entry": [{"item": item} for item in items]}
    return frozenset(bundle_graph.referred(listed, bases))


def read(permit: Permit, members: Collection[str] | None = None) -> Permit:
    """The permit once the List was read and shown; members are what it names, None where that is not known."""
    if permit.by_list is None:
        return permit
    judge = permit.by_list.judge if members is None else _among(members, permit.by_list.judge)
    if permit.by_search is not None:
        return replace(permit, by_search=replace(permit.by_search, judge=judge), by_list=None)
    return replace(permit, judge=judge, by_list=None)


def _among(members: Collection[str], judge: Judge) -> Judge:
    def judged(resource: Resource) -> Verdict:
        is_named = f"{resource.get('resourceType')}/{resource.get('id')}" in members
        return judge(resource) if is_named else show_nothing(resource)

    return judged
