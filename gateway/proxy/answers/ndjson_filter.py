"""A file of an export on its way out: each line judged by the rules of today, the others left out without a trace."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from gateway.fhir import by_form, links, ndjson, resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.pieces import AlikeEntries
from gateway.fhir.plain_json import exact_object
from gateway.policy.decision import Judge, LookingJudge, Verdict
from gateway.proxy.answers.alike_entries import AlikeFilter, looked_at
from gateway.proxy.answers.response_filter import Settle, passes
from gateway.proxy.answers.tally import Tally

_Lines = list[ndjson.Line | AlikeEntries]


@dataclass(frozen=True, slots=True)
class NdjsonFilter:
    """Filters one NDJSON file, of which every line has one type. max_line_bytes bounds a line."""

    judge: Judge
    upstream: str
    public: str
    tally: Tally
    max_line_bytes: int = ndjson.MAX_LINE_BYTES
    settle: Settle | None = None
    bases: frozenset[str] = frozenset()  # by which references name resources of the store

    async def run(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines that are shown. Raises FhirError(UPSTREAM_INVALID); bytes may have gone out."""
        # A judge that looks at certain members needs to know nothing else.
        by_form_ = by_form.lines(self.upstream, looked_at(self._judge_of)) if self._looks else None
        reader = ndjson.LineReader(max_line_bytes=self.max_line_bytes, by_form=by_form_)
        alike = AlikeFilter(
            judge_of=self._judge_of,
            begins=(b"", b""),
            bases=self.bases,
            tally=self.tally,
            is_usual=lambda line: True,
            whole=_never_whole,
        )
        async for chunk in chunks:
            out = b"".join(self._shown(await self._settled(reader.feed(chunk)), alike))
            if out:
                yield out
        out = b"".join(self._shown(await self._settled(reader.finish()), alike))
        if out:
            yield out

    @property
    def _looks(self) -> bool:
        return isinstance(self.judge, LookingJudge)

    def _judge_of(self, type_: str) -> Judge:
        return self.judge

    async def _settled(self, lines: _Lines) -> _Lines:
        """The lines, once what their judge needs to know is found out."""
        whole = [line.value for line in lines if isinstance(line, ndjson.Line)]
        if self.settle is not None and whole:
            await self.settle([partial(passes, self.judge, value) for value in whole])
        return lines

    def _shown(self, lines: _Lines, alike: AlikeFilter) -> list[bytes]:
        out: list[bytes] = []
        for line in lines:
            if isinstance(line, AlikeEntries):
                for shown in alike.shown(line.entries):
                    out += (shown, b"\n")
                continue
            verdict = self.judge(line.value)
            if not verdict.shown:
                self.tally.dropped += 1
                continue
            self.tally.shown += 1
            self.tally.about.note(line.value, self.bases)
            self.tally.rules.update(verdict.rules)
            out.append(self._written(line, verdict))
            out.append(b"\n")
        return out

    def _written(self, line: ndjson.Line, verdict: Verdict) -> bytes:
        if verdict.seen is None:
            return resource.rewrite_entry(line.raw, line.value, upstream=self.upstream, public=self.public)
        seen = self.judge(exact_object(line.raw)).seen  # what is written anew has every number as it was
        if seen is None:
            raise FhirError(Reason.INTERNAL)
        value = dict(seen)
        links.rewrite_urls(value, upstream=self.upstream, public=self.public)
        return resource.write_resource(value)


def _never_whole(raw: bytes) -> bytes:
    # A judge that looks at certain members shows the whole of a resource, or nothing.
    raise FhirError(Reason.INTERNAL)
