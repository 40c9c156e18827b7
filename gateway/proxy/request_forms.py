"""A read as the store is asked for it, with places for what differs from one read to the next like it.

It is written once as any request is, with marks for the id, the interaction and those headers of the caller that differ and
pass. To fill it in costs a join.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from authz.protocol.request import HttpRequest
from gateway.proxy import headers
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream

_MARK = re.compile(rb"securus-mark-([a-z0-9-]+)\.")
_ID, _INTERACTION = "id", "interaction"


class RequestForm:
    """The head of a request. Made by of()."""

    __slots__ = ("_before", "_end", "_of_callers", "_to_interaction")

    def __init__(
        self, before: bytes, of_callers: tuple[tuple[bytes, str], ...], to_interaction: bytes, end: bytes
    ) -> None:
        self._before = before
        self._of_callers = of_callers  # what stands before the value of a header, and its name
        self._to_interaction = to_interaction
        self._end = end

    @classmethod
    def of(
        cls,
        client: UpstreamClient,
        upstream: Upstream,
        type_: str,
        like: HttpRequest,
        varying: frozenset[str],
    ) -> "RequestForm":
        """The form of reads of this type by requests that are like this one but for the values of varying headers.

        Raises UnsendableRequest, and ValueError where somebody's own text has a mark in it.
        """
        marked = replace(like, headers={**like.headers, **{name: _mark(name) for name in varying}})
        sent = headers.to_upstream(marked, upstream, _mark(_INTERACTION))
        passed = [name for name in sent if name in varying and sent[name] == _mark(name)]
        before, *parts = _MARK.split(client.written(f"{type_}/{_mark(_ID)}", sent))
        names, pieces = [name.decode("ascii") for name in parts[::2]], parts[1::2]
        if names != [_ID, *passed, _INTERACTION]:
            raise ValueError("a text of the request has a mark in it")
        *of_callers, to_interaction, end = pieces
        return cls(before, tuple(zip(of_callers, passed, strict=True)), to_interaction, end)

    def filled(self, id_: str, interaction_id: str, said: Mapping[str, str]) -> bytes:
        """The head of one read. id_ and interaction_id are of letters, digits and '-'; said are the caller's headers."""
        parts = [self._before, id_.encode("ascii")]
        for piece, name in self._of_callers:
            parts += (piece, said[name].encode("ascii"))
        parts += (self._to_interaction, interaction_id.encode("ascii"), self._end)
        return b"".join(parts)


def _mark(name: str) -> str:
    return f"securus-mark-{name}."
