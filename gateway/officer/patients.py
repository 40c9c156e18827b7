"""Who a patient is, read from the store for the rules of signals: the family names and the labels of the Patient.

Names are read when a rule looks, and forgotten after minutes. Neither the index nor the log holds them, nor a digest of
them: there are so few family names that a digest tells the name to everybody who has the key, and a key in the same
database protects nothing.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from authz.clock import Clock
from gateway.audit.signals.findings import PatientFacts
from gateway.audit.signals.watch import PatientsUnavailable
from gateway.fhir.resource import objects
from gateway.proxy.lookups.preflight import Preflight, TooMany, Unavailable

_KEPT_SECONDS = 300
_MOST_KEPT = 5_000
_MOST_FOUND = 3


class Searches(Protocol):
    """Searches of the gateway's own at a store: gateway.proxy.lookups.preflight.Preflight."""

    async def search(self, target: str, *, at_most: int) -> list[dict[str, Any]]:
        """Resources. Raises Unavailable, TooMany."""
        ...


class StorePatients:
    """gateway.audit.signals.watch.Patients, of the stores behind the mounts, by the identifiers of their bases."""

    def __init__(self, stores: Mapping[str, Searches | Preflight], clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[int, PatientFacts]] = OrderedDict()

    async def of(self, base: str, patient: str) -> PatientFacts:
        """What the store says of a patient, at most minutes old. Raises PatientsUnavailable."""
        now, key = self._clock(), (base, patient)
        kept = self._kept.get(key)
        if kept is not None and now < kept[0]:
            return kept[1]
        store = self._stores.get(base)
        if store is None:
            return PatientFacts()  # a base that is not configured any more
        try:
            found = await store.search(f"Patient?_id={quote(patient, safe='')}", at_most=_MOST_FOUND)
        except (Unavailable, TooMany) as error:
            raise PatientsUnavailable from error
        facts = _facts(found, patient)
        self._kept[key] = (now + _KEPT_SECONDS, facts)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return facts


def _facts(found: list[dict[str, Any]], patient: str) -> PatientFacts:
    for resource in found:
        if resource.get("resourceType") == "Patient" and resource.get("id") == patient:
            names = [_text(each, "family") for each in objects(resource.get("name"))]
            meta = resource.get("meta")
            labels = [
                f"{_text(each, 'system')}|{_text(each, 'code')}"
                for each in objects(meta.get("security") if isinstance(meta, dict) else None)
            ]
            return PatientFacts(frozenset(filter(None, names)), frozenset(labels))
    return PatientFacts()


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""
