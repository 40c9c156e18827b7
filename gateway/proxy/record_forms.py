"""The record of a read as it stands in the log, with places for what differs from one read to the next like it.

It is written once as any record is, with marks for the interaction, the id and the patients. To fill it in costs a join.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from gateway.audit.lines import members_of
from gateway.proxy.answers.tally import Tally
from gateway.proxy.trail import Trail

_INTERACTION, _ID, _PATIENT = "securus-mark-i", "securus-mark-r", "securus-mark-p"
_PATIENTS = f'["{_PATIENT}"]'.encode()
_TIMES = 3  # an id stands in the canonical text of the request, by itself, and in what the store was asked
_encode = msgspec.json.Encoder().encode


class RecordForm:
    """The members of a record. Made by of()."""

    __slots__ = ("_after_patients", "_before", "_before_patients", "_between_ids")

    def __init__(
        self, before: bytes, before_patients: bytes, after_patients: bytes, between: list[bytes]
    ) -> None:
        self._before = before
        self._before_patients = before_patients
        self._after_patients = after_patients
        self._between_ids = between

    @classmethod
    def of(cls, trail: Trail, route: str) -> "RecordForm | None":
        """The form of the record of a read that shows one resource, of which trail is like; None where it has none."""
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
        written = members_of(like.record(route, 200))
        before, *behind = written.split(_INTERACTION.encode())
        before_patients, *after = b"".join(behind).split(_PATIENTS)
        after_patients, *between = b"".join(after).split(_ID.encode())
        if (len(behind), len(after), len(between)) != (1, 1, _TIMES):
            return None  # somebody's own text has a mark in it
        return cls(before, before_patients, after_patients, between)

    def filled(self, interaction_id: str, id_: bytes, patients: Sequence[str]) -> bytes:
        """The members of one record. interaction_id and id_ are of letters, digits and '-'."""
        named = _encode(patients)
        return b"".join(
            (
                self._before,
                interaction_id.encode("ascii"),
                self._before_patients,
                named,
                self._after_patients,
                id_,
                id_.join(self._between_ids),
            )
        )
