"""Entries and lines that were read by their form, on their way out: judged and noted once for all that are alike.

What is looked at in one decides all that is decided about it: who is shown it, and whom the record says that it is
about. So one that has the same there as the one before has the same verdict.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gateway.fhir.by_form import LookedAt
from gateway.policy.decision import Judge, LookingJudge, Verdict
from gateway.proxy.answers.tally import Tally, members_noted

_MOST_VERDICTS = 100

JudgeOf = Callable[[str], Judge | None]
"""The judge of a type."""
Whole = Callable[[bytes], bytes | None]
"""An entry by its bytes, as one goes out that was read whole; None when it does not."""


def looked_at(judge_of: JudgeOf) -> LookedAt:
    """What these judges and the record look at, by type."""

    def members(type_: str) -> frozenset[str] | None:
        judge = judge_of(type_)
        return looked_at_beside(judge.looks_at, type_) if isinstance(judge, LookingJudge) else None

    return cache(members)


def looked_at_beside(names: frozenset[str], type_: str) -> frozenset[str] | None:
    """What the record looks at of a resource of the type, beside these members; None for all of it."""
    noted = members_noted(type_)
    return None if noted is None else names | noted


@dataclass(slots=True)
class AlikeFilter:
    """Filters what was read by its form.

    begins is how each begins and how it does on its way out; whole takes one of which more has to be looked at.
    """

    judge_of: JudgeOf
    begins: tuple[bytes, bytes]
    bases: frozenset[str]
    tally: Tally
    # Of an entry: there is nothing about it but its resource to decide.
    is_usual: Callable[[Mapping[str, Any]], bool]
    whole: Whole
    _entry: Mapping[str, Any] = field(default_factory=dict)
    # by id(), with it.
    _verdicts: dict[int, tuple[Mapping[str, Any], Verdict | None]] = field(default_factory=dict)
    _verdict: Verdict | None = None  # on that entry; None where it has to be looked at whole
    _is_noted: bool = False  # once and for all

    def shown(self, entries: Iterable[tuple[bytes, dict[str, Any]]]) -> list[bytes]:
        """Those that go out, as they do."""
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
        known = self._verdicts.get(id(entry))
        if known is not None:
            self._verdict = known[1]
            return
        judge = self.judge_of(entry["resource"]["resourceType"])
        is_known = isinstance(judge, LookingJudge) and self.is_usual(entry)
        verdict = judge(entry["resource"]) if judge is not None and is_known else None
        self._verdict = verdict if verdict is not None and verdict.seen is None else None
        if len(self._verdicts) >= _MOST_VERDICTS:
            self._verdicts.clear()
        self._verdicts[id(entry)] = entry, self._verdict

    def _note(self, resource: Mapping[str, Any], verdict: Verdict) -> None:
        """Note whom an entry is about. Of patients whom the record has no place for, each resource is counted."""
        about = self.tally.about
        unlisted = about.unlisted
        about.note(resource, self.bases)
        self._is_noted = about.unlisted == unlisted
        self.tally.rules.update(verdict.rules)
