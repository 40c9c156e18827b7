"""What is seen of a Bundle or Parameters of whose resources some are seen in part: these as if they came alone.

What stands beside them must not tell what was taken out. Narratives, such as those of the sections of a document, speak
of all that is held, so they go where more was taken than of meta; copies are looked for in all of it; of an entry that
was cut its request and response say what was done, no criteria and no dates. A signature is one of the whole, and goes.
The holder itself carries the tag SUBSETTED: a document that was cut is another document, and says so.
"""

from collections.abc import Mapping
from typing import Any

from gateway.fhir.held_resources import exchanged, held_resources
from gateway.policy.copies import WITHHELD, Copies
from gateway.policy.decision import Resource
from gateway.policy.view import tagged

_OF_THE_WHOLE = frozenset({"link", "signature"})
_STAYS = frozenset({"id", "method", "name", "resourceType", "status", "type"})
_OF_A_CUT_ENTRY = {"request": frozenset({"method", "url"}), "response": frozenset({"outcome", "status"})}
_NOT_TOLD_IN_WORDS = frozenset({"meta", "text", "_text"})


def cut(holder: Resource, seen: Mapping[int, Resource]) -> Resource:
    """The holder with what is seen in place of those of its resources that are seen in part.

    seen is by the id() of each as it stands in the holder.
    """
    copies, is_told = Copies(), False
    for whole in held_resources(holder):
        left = seen.get(id(whole))
        if left is not None:
            copies.take_difference(whole, left)
            is_told = is_told or _words_of(whole) != _words_of(left)

    def left_of(whole: Resource) -> Resource:
        left = seen.get(id(whole), whole)
        if is_told:
            left = {name: value for name, value in _wordless(left).items() if name not in ("text", "_text")}
        left = copies.without(left)
        return whole if left == whole else tagged(left)

    kept = {name: value for name, value in _trimmed(holder, seen).items() if name not in _OF_THE_WHOLE}
    return tagged(exchanged(kept, left_of, lambda name, value: name in _STAYS or not copies.repeats(value)))


def _trimmed(node: Any, seen: Mapping[int, Resource]) -> Any:
    """The holder whose entries say no more than what was done of what is seen in part."""
    if isinstance(node, list):
        return [_trimmed(item, seen) for item in node]
    if not isinstance(node, Mapping):
        return node
    if id(node.get("resource")) not in seen:
        return {name: _trimmed(value, seen) if name == "entry" else value for name, value in node.items()}
    found = dict(node)
    for name, kept in _OF_A_CUT_ENTRY.items():
        said = node.get(name)
        if isinstance(said, Mapping):
            found[name] = {member: value for member, value in said.items() if member in kept}
            if isinstance(url := found[name].get("url"), str):
                found[name]["url"] = url.partition("?")[0]
    return found


def _words_of(resource: Resource) -> dict[str, Any]:
    """What of a resource narratives may say in words."""
    return {name: value for name, value in resource.items() if name not in _NOT_TOLD_IN_WORDS}


def _wordless(value: Any) -> Any:
    """The value with every narrative withheld."""
    if isinstance(value, Mapping):
        if isinstance(value.get("div"), str):
            return dict(WITHHELD)
        return {name: _wordless(inner) for name, inner in value.items()}
    return [_wordless(item) for item in value] if isinstance(value, list) else value
