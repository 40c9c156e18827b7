"""The consents of patients, asked of their source and kept for a short while.

Consents of many patients are asked in one search: a page of results has many patients.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from authz.clock import Clock
from gateway.fhir.search import encode_terms, make_term
from gateway.policy.consent import ConsentAnswer, ConsentQuestion, ConsentSource, answer
from gateway.policy.known import ConsentsOf
from gateway.proxy.knowledge import AT_ONCE
from gateway.proxy.preflight import Preflight, TooMany, Unavailable

_MAX_KEPT = 10_000  # patients
_MAX_CONSENTS = 2000  # of the patients of one search
_Consents = tuple[dict[str, Any], ...]
_Found = dict[str, _Consents | None]


class Consents:
    """Consents from one source. keep is how long they are good, in seconds; count is told how they were had."""

    def __init__(
        self,
        preflight: Preflight,
        source: ConsentSource,
        clock: Clock,
        *,
        keep: float,
        count: Callable[[str], None],
    ) -> None:
        self._preflight = preflight
        self._source = source
        self._clock = clock
        self._keep = keep
        self._count = count
        self._kept: OrderedDict[str, tuple[_Consents, int]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Found]] = {}

    async def of(self, patients: Collection[str]) -> dict[str, ConsentsOf | None]:
        """What the consents of these patients say; None for those whose consents could not be had. Raises nothing."""
        found: _Found = {}
        tasks: set[asyncio.Task[_Found]] = set()
        new: list[str] = []
        for patient in patients:
            kept = self._kept_for(patient)
            if kept is not None:
                self._count("kept")
                found[patient] = kept
            elif patient in self._asking:
                tasks.add(self._asking[patient])
            else:
                new.append(patient)
        for start in range(0, len(new), AT_ONCE):
            tasks.add(self._ask(new[start : start + AT_ONCE]))
        for task in tasks:
            # A task of its own: who asked first may go away, the others wait on.
            found |= await asyncio.shield(task)
        return {patient: self._answering(found.get(patient)) for patient in patients}

    def _ask(self, patients: list[str]) -> asyncio.Task[_Found]:
        task = asyncio.create_task(self._asked(patients))
        for patient in patients:
            self._asking[patient] = task

        def done(_: object) -> None:
            for patient in patients:
                self._asking.pop(patient, None)

        task.add_done_callback(done)
        return task

    async def _asked(self, patients: list[str]) -> _Found:
        began = self._clock()
        of = make_term("patient", [f"Patient/{patient}" for patient in patients])
        terms = (of, make_term("status", ["active"]), make_term("_count", ["200"]))
        try:
            resources = await self._preflight.search(f"Consent?{encode_terms(terms)}", at_most=_MAX_CONSENTS)
        except (Unavailable, TooMany):
            self._count("unavailable")
            return dict.fromkeys(patients)
        self._count("asked")
        found: _Found = {}
        for patient in patients:
            consents = tuple(each for each in resources if self._source.takes(each, patient))
            found[patient] = consents
            self._kept.pop(patient, None)
            self._kept[patient] = (consents, began)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def _kept_for(self, patient: str) -> _Consents | None:
        kept = self._kept.get(patient)
        if kept is None or self._clock() - kept[1] >= self._keep:
            return None
        self._kept.move_to_end(patient)
        return kept[0]

    def _answering(self, consents: _Consents | None) -> ConsentsOf | None:
        if consents is None:
            return None

        def said(question: ConsentQuestion) -> ConsentAnswer:
            return answer(consents, question, self._clock())

        return said
