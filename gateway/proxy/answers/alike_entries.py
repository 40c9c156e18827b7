"""Entries that were read by their form, on their way out: judged and noted once for all that are alike.

What is looked at in an entry decides all that is decided about it: who is shown it, and whom the record says that it
is about. So an entry that has the same there as the one before has the same verdict.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.fhir.entries_by_form import EntriesByForm
from gateway.policy.decision import Judge, LookingJudge, Verdict
from gateway.proxy.answers.tally import Tally, members_noted

Whole = Callable[[bytes], bytes | None]
"""An entry by its bytes, as one goes out that was read whole; None when it does not."""


def reader_by_form(judges: Mapping[str, Judge], upstream: str) -> EntriesByForm | None:
    """What takes the entries by their form that these judges can judge so; None where there are none."""
    looked_at: dict[str, frozenset[str]] = {}
    for type_, judge in judges.items():
        noted = members_noted(type_)
        if isinstance(judge, LookingJudge) and noted is not None:
            looked_at[type_] = judge.looks_at | noted
    return EntriesByForm(upstream, looked_at) if looked_at else None


@dataclass(slots=True)
class AlikeFilter:
    """Filters the entries of a search that were read by their form.

    begins is how they begin and how they do on their way out; whole takes one of which more has to be looked at.
    """

    judges: Mapping[str, Judge]
    begins: tuple[bytes, bytes]
    bases: frozenset[str]
    tally: Tally
    is_usual: Callable[[Mapping[str, Any]], bool]  # of an entry's search: nothing of it is looked at further
    whole: Whole
    _entry: Mapping[str, Any] = field(default_factory=dict)
    _verdict: Verdict | None = None  # on that entry; None where it has to be looked at whole
    _is_noted: bool = False  # once and for all

    def shown(self, entries: Iterable[tuple[bytes, dict[str, Any]]]) -> list[bytes]:
        """Those of the entries that go out, as they do."""
        old, new = self.begins
        begin, tally = len(old), self.tally
        out: list[bytes] = []
        for raw, entry in entries:
            if entry is not self._entry:
                self._judge(entry)
            verdict = self._verdict
            if verdict is None:
                kept = self.whole(raw)
                if kept is not None:
                    out.append(kept)
            elif not verdict.shown:
                tally.dropped += 1
            else:
                tally.shown += 1
                if not self._is_noted:
                    self._note(entry["resource"], verdict)
                out.append(new + raw[begin:])
        return out

    def _judge(self, entry: Mapping[str, Any]) -> None:
        self._entry, self._is_noted = entry, False
        judge = self.judges.get(entry["resource"]["resourceType"])
        is_known = isinstance(judge, LookingJudge) and self.is_usual(entry["search"])
        self._verdict = judge(entry["resource"]) if judge is not None and is_known else None

    def _note(self, resource: Mapping[str, Any], verdict: Verdict) -> None:
        """Note whom an entry is about. Of patients whom the record has no place for, each resource is counted."""
        about = self.tally.about
        unlisted = about.unlisted
        about.note(resource, self.bases)
        self._is_noted = about.unlisted == unlisted
        self.tally.rules.update(verdict.rules)
