"""Consents of the store behind a base, brought into ours: once, or again whenever they may have changed there.

Each keeps its id and says where it came from. What was changed here since is not written over; what is no Consent that
could be kept, or is of nobody whom the base knows, is told and left.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from authz.storage.consents import ConsentVersion
from authz.storage.store import Store
from gateway.consent_service.grants import standing
from gateway.consent_service.room import OPEN, add_within, check_room, room_for
from gateway.consent_service.rules import check_consent, patient_of
from gateway.consent_service.versions import version_as_told
from gateway.fhir.ids import is_id
from gateway.fhir.known_elements import check_elements
from gateway.fhir.outcome import FhirError

ORIGIN_URL = "urn:securus:consent:origin"
"""The extension that names the version of the store that a consent was imported from."""
IMPORT = "import"
"""Who records what is imported."""


Planned = dict[str, dict[str, dict[str, Any]]]
"""Consents by their ids, by the ids of their patients."""


@dataclass(slots=True)
class Imported:
    """What became of the consents of a store: ids, and for what was left why."""

    added: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changed_here: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


async def bring_in(
    found: Sequence[dict[str, Any]],
    *,
    name: str,
    base: str,
    store: Store,
    is_there: Callable[[str], Awaitable[bool]],
    now: int,
    writes: bool,
) -> Imported:
    """Bring in what a store of that name holds; without writes it is only told what would become of it.

    Raises StoreUnavailable, and FhirError where the store does not answer; what was written stays.
    """
    done = Imported()
    planned: Planned = {}  # what would be written, where nothing is
    patients: dict[str, bool] = {}
    for value in found:
        id_ = value.get("id")
        if value.get("resourceType") != "Consent" or not isinstance(id_, str) or not is_id(id_):
            continue
        try:
            check_elements(value)
            check_consent(value)
            patient = patient_of(value)
        except FhirError as error:
            done.refused[id_] = error.diagnostics
            continue
        if patient not in patients:
            patients[patient] = await is_there(patient)
        if not patients[patient]:
            done.refused[id_] = "Consent.patient is not a patient of this base"
            continue
        await _one(
            value, id_, done, name=name, base=base, store=store, now=now,
            planned=None if writes else planned,
        )  # fmt: skip
    return done


async def _one(
    value: Mapping[str, Any],
    id_: str,
    done: Imported,
    *,
    name: str,
    base: str,
    store: Store,
    now: int,
    planned: Planned | None,
) -> None:
    """Bring in one; planned are those of this run where none is written."""
    origin = _origin_of(value, name, id_)
    before = await store.consent(base, id_)
    if before is not None and before.recorded_by != IMPORT:
        done.changed_here.append(id_)
        return
    if before is not None and origin_of(before) == origin:
        done.unchanged.append(id_)
        return
    kept = [each for each in value.get("extension", []) if each.get("url") != ORIGIN_URL]
    marked = {**value, "extension": [*kept, {"url": ORIGIN_URL, "valueString": origin}]}
    version = version_as_told(marked, before, base=base, id=id_, now=now, by=IMPORT)
    if before is not None and version.patient != before.patient:
        done.refused[id_] = "the consent is of another patient than the one that was imported"
        return

    async def beside() -> dict[str, Any]:
        return await standing(store, base, version.patient, now=now)

    try:
        if planned is not None:
            there = await beside() | planned.get(version.patient, {})
            check_room(marked, id_, {id: each for id, each in there.items() if each.get("status") in OPEN})
            planned.setdefault(version.patient, {})[id_] = marked
        else:
            room = await room_for(store, marked, base=base, id=id_, beside=beside)
            if not await add_within(store, version, room):
                done.changed_here.append(id_)
                return
    except FhirError as error:
        done.refused[id_] = error.diagnostics
        return
    (done.added if before is None else done.renewed).append(id_)


def origin_of(version: ConsentVersion) -> str:
    """Where an imported consent came from, such as 'fhir/Consent/c1/_history/3'; '' for one that was made here."""
    value: dict[str, Any] = json.loads(version.resource)
    for each in value.get("extension", []):
        if each.get("url") == ORIGIN_URL:
            return str(each.get("valueString", ""))
    return ""


def _origin_of(value: Mapping[str, Any], name: str, id_: str) -> str:
    """The version at the store: by its number, or by its time where the store numbers none."""
    meta = value.get("meta")
    said = meta if isinstance(meta, Mapping) else {}
    version = said.get("versionId") or said.get("lastUpdated") or "unknown"
    return f"{name}/Consent/{id_}/_history/{version}"
