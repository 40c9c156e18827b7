"""The record of a read as it stands in the log, with places for what differs from one read to the next like it.

It is written once as any record is, with marks for the interaction, the id, the patients and a trace, where each read has
its own. To fill it in costs a join.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from gateway.audit.lines import members_of
from gateway.proxy.answers.tally import Tally
from gateway.proxy.trail import Trail

_INTERACTION, _ID, _PATIENT = "securus-mark-i", "securus-mark-r", "securus-mark-p"
_TRACE = "securus-mark-t".ljust(55, "-")  # as long as a trace is that is recorded
_PATIENTS = f'["{_PATIENT}"]'
_MARK = re.compile("|".join(map(re.escape, (_INTERACTION, _PATIENTS, _ID, _TRACE))).encode())
# An id stands in the canonical text of the request, by itself, and in what the store was asked.
_PLACES = tuple(mark.encode() for mark in (_INTERACTION, _PATIENTS, _ID, _ID, _ID))
_PLACES_WITH_TRACE = (*_PLACES[:-1], _TRACE.encode(), _PLACES[-1])
_encode = msgspec.json.Encoder().encode


class RecordForm:
    """The members of a record. Made by of()."""

    __slots__ = ("_before", "_between_ids", "_end", "_to_ids", "_to_last_id", "_to_patients", "_to_trace")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """pieces are what stands between the places, of which there is one more where each read has its own trace."""
        self._before, self._to_patients, self._to_ids, self._between_ids, *to_trace, to_last_id, end = pieces
        self._to_trace = to_trace[0] if to_trace else None
        self._to_last_id, self._end = to_last_id, end

    @classmethod
    def of(cls, trail: Trail, route: str, *, traces_vary: bool = False) -> "RecordForm | None":
        """The form of the record of a read that shows one resource, of which trail is like; None where it has none.

        traces_vary is whether each of those like it has a traceparent of its own.
        """
        if trail.asked is None:
            return None
        tally = Tally(shown=1)
        tally.about.note({"resourceType": "Patient", "id": _PATIENT}, frozenset())
        like = replace(
            trail,
            interaction_id=_INTERACTION,
            asked=replace(trail.asked, id=_ID),
            upstream=[f"GET {trail.asked.type}/{_ID}"],
            tally=tally,
        )
        if traces_vary:
            traced = {**trail.request.headers, "traceparent": _TRACE}
            like.request = replace(trail.request, headers=traced)
        written = members_of(like.record(route, 200))
        if _MARK.findall(written) != list(_PLACES_WITH_TRACE if traces_vary else _PLACES):
            return None  # somebody's own text has a mark in it
        return cls(_MARK.split(written))

    def filled(self, interaction_id: str, id_: bytes, patients: Sequence[str], trace: str = "") -> bytes:
        """The members of one record. interaction_id and id_ are of letters, digits and '-'.

        trace is its traceparent, of letters, digits and '-'; where traces do not vary it is not looked at.
        """
        named = _encode(patients)
        to_last_id = self._to_last_id
        if self._to_trace is not None:
            to_last_id = b"".join((self._to_trace, trace.encode("ascii"), to_last_id))
        return b"".join(
            (
                self._before,
                interaction_id.encode("ascii"),
                self._to_patients,
                named,
                self._to_ids,
                id_,
                self._between_ids,
                id_,
                to_last_id,
                id_,
                self._end,
            )
        )
