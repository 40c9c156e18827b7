"""Searches of the members of a List (`_list=…`): open once a read of the List by the same caller has shown it, whole.

What is found is an answer about the List: that a resource stands in it. So who may not read the List finds nothing, as
one does where there is no such List. The members are judged one by one, as ever.
"""

from dataclasses import replace

from gateway.policy.decision import ByList, Permit
from gateway.policy.layers import show_nothing


def waiting(permit: Permit, list_id: str | None) -> Permit:
    """The permit with its judge behind the read of the List: whoever does not ask for that is shown nothing."""
    if permit.judge is None or list_id is None:
        return permit
    return replace(permit, judge=show_nothing, by_list=ByList(list_id, permit.judge))


def read(permit: Permit) -> Permit:
    """The permit once the List was read and shown."""
    if permit.by_list is None:
        return permit
    judge = permit.by_list.judge
    if permit.by_search is not None:
        return replace(permit, by_search=replace(permit.by_search, judge=judge), by_list=None)
    return replace(permit, judge=judge, by_list=None)
