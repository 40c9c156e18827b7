"""A file of an export on its way out: each line judged by the rules of today, the others left out without a trace."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from gateway.fhir import links, ndjson, resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.plain_json import exact_object
from gateway.policy.decision import Judge, Resource, Verdict
from gateway.proxy.answers.response_filter import Settle
from gateway.proxy.answers.tally import Tally


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
        reader = ndjson.LineReader(max_line_bytes=self.max_line_bytes)
        async for chunk in chunks:
            out = b"".join(self._shown(await self._settled(reader.feed(chunk))))
            if out:
                yield out
        out = b"".join(self._shown(await self._settled(reader.finish())))
        if out:
            yield out

    async def _settled(self, lines: list[ndjson.Line]) -> list[ndjson.Line]:
        """The lines, once what their judge needs to know is found out."""
        if self.settle is not None and lines:
            await self.settle([partial(_passes, self.judge, line.value) for line in lines])
        return lines

    def _shown(self, lines: list[ndjson.Line]) -> list[bytes]:
        out: list[bytes] = []
        for line in lines:
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


def _passes(judge: Judge, resource: Resource) -> bool:
    return judge(resource).shown
