"""What leads to an included entry: a shown match, or a shown entry that an iterating include goes on from.

An include that nothing shown leads to would tell of a match that is hidden, though everybody may see the entry itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.fhir.joins import Include, reference_expression
from gateway.fhir.links import local_reference

_MAX_DEPTH = 3  # of what iterating includes bring
_MAX_WAITING = 1000  # entries that came before what leads to them
_MAX_WAITING_BYTES = 8 * 1024 * 1024

_Key = tuple[str, str]
_Waiting = tuple[bytes, dict[str, Any], Mapping[str, Any]]


class Connections:
    """The connections of one Bundle."""

    def __init__(self, includes: tuple[Include, ...], bases: frozenset[str]) -> None:
        self._forward = [include for include in includes if not include.reverse]
        self._reverse = [include for include in includes if include.reverse]
        self._bases = bases
        self._wanted: dict[_Key, int] = {}  # what shown entries refer to, with the depth that it would have
        self._shown: dict[_Key, int] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0

    def shown(self, resource: Mapping[str, Any], *, depth: int) -> None:
        """Note an entry that goes out; depth is 0 for a match."""
        type_, id_ = resource.get("resourceType"), resource.get("id")
        if not isinstance(type_, str) or not isinstance(id_, str):
            return
        self._shown[(type_, id_)] = min(depth, self._shown.get((type_, id_), depth))
        if depth == _MAX_DEPTH:
            return
        for include in self._forward:
            if include.source == type_ and (not depth or include.iterate):
                for key in self._references(resource, include):
                    self._wanted[key] = min(depth + 1, self._wanted.get(key, depth + 1))

    def depth(self, resource: Mapping[str, Any]) -> int | None:
        """How far from a match the entry stands; None when nothing shown leads to it."""
        type_, id_ = resource.get("resourceType"), resource.get("id")
        if not isinstance(type_, str) or not isinstance(id_, str):
            return None
        found = [self._wanted[(type_, id_)]] if (type_, id_) in self._wanted else []
        for include in self._reverse:
            if include.source == type_:
                for key in self._references(resource, include):
                    depth = self._shown.get(key)
                    if depth is not None and depth < _MAX_DEPTH and (not depth or include.iterate):
                        found.append(depth + 1)
        return min(found, default=None)

    def wait(self, raw: bytes, entry: dict[str, Any], seen: Mapping[str, Any]) -> bool:
        """Keep an entry, of which this is seen, until the others have come; False when too many wait already."""
        self._waiting_bytes += len(raw)
        if len(self._waiting) >= _MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES:
            return False
        self._waiting.append((raw, entry, seen))
        return True

    def waiting(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """What waited, each entry as soon as something shown leads to it, the unconnected at the end."""
        left = self._waiting
        while left:
            following: list[_Waiting] = []
            rest: list[_Waiting] = []
            for each in left:
                (rest if self.depth(each[2]) is None else following).append(each)
            if not following:
                yield from ((raw, entry) for raw, entry, _ in rest)
                return
            yield from ((raw, entry) for raw, entry, _ in following)
            left = rest

    def _references(self, resource: Mapping[str, Any], include: Include) -> Iterator[_Key]:
        for value in reference_expression(include.source, include.code).values(resource):
            text = value.get("reference") if isinstance(value, dict) else None
            found = local_reference(text, self._bases) if isinstance(text, str) else None
            if found is not None and found.type in include.targets:
                yield found.type, found.id
