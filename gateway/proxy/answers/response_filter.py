"""The answer on its way out: each entry judged, links rewritten or sealed, totals only where they are exact.

An entry that nothing changed leaves byte for byte. What the judge refuses, and what nobody asked for, is left out
without a trace.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.fhir import by_form, links, resource, stream
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.pieces import (
    AlikeEntries,
    End,
    EntriesBegin,
    EntriesEnd,
    Entry,
    Member,
    Piece,
    PlainEntries,
    values,
)
from gateway.fhir.plain_json import exact_object, plain_object
from gateway.fhir.shape import Shape, shaped
from gateway.policy.decision import Included, Judge, LookingJudge, Resource, Verdict
from gateway.proxy import headers
from gateway.proxy.answers.alike_entries import AlikeFilter, looked_at
from gateway.proxy.answers.connections import Connections
from gateway.proxy.answers.entry_members import OF_A_MATCH, is_known, is_plain, plain, usual_match
from gateway.proxy.answers.self_links import proves
from gateway.proxy.answers.tally import Tally
from gateway.settings import SelfLink

_KEPT_MEMBERS = frozenset({"id", "language", "timestamp"})
_OF_META = {"versionId": "etag", "lastUpdated": "lastModified"}  # what a response repeats of meta
_PAGES = frozenset({"next", "previous", "prev", "first", "last"})
_MAX_ENTRY_BYTES = 10 * 1024 * 1024

Settle = Callable[[Sequence[Callable[[], bool]]], Awaitable[None]]
"""Finds out what judges need to know, before they are asked for good."""
Seal = Callable[[str], str | None]
"""From a target relative to the store's base to the public URL of that page; None when it is no page."""


@dataclass(frozen=True, slots=True)
class BundleFilter:
    """Filters one Bundle.

    judges    by type; an entry of any other type is left out
    kind      'searchset' or 'history'
    includes  whether entries that the store brought along are asked for
    added     'name=value' of the criteria that the gateway added; a self link without them means they were ignored
    needed    parameters that the caller had to send, by their plain names; a self link without one means the same
    exact     the store's total may be passed on, once its self link has shown the criteria in added
    self_url  the public URL that the caller asked
    shape     what is left of each resource
    included  what may stand beside the matches, each judged by its own type's judge
    self_link what the store's self link proves
    """

    judges: Mapping[str, Judge]
    upstream: str
    public: str
    kind: str
    added: tuple[str, ...]
    exact: bool
    self_url: str
    seal: Seal
    tally: Tally
    included: Included | None = None
    shape: Shape | None = None
    bases: frozenset[str] = frozenset()  # by which references name resources of the store
    self_link: SelfLink = SelfLink.SILENT
    includes: bool = False
    settle: Settle | None = None
    needed: frozenset[str] = frozenset()
    proof: bool = False  # nothing is shown before the self link has named the criteria in added

    async def run(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The filtered Bundle. Raises FhirError(UPSTREAM_INVALID, NARROWING_IGNORED); bytes may have gone out."""
        reader = stream.BundleReader(max_entry_bytes=_MAX_ENTRY_BYTES, by_form=self._by_form())
        yield b'{"resourceType":"Bundle","type":"' + self.kind.encode() + b'"'
        state = _State()
        state.alike = self._alike(state)
        if self.included is not None:
            state.connections = Connections(self.included.includes, self.bases)
        async for chunk in chunks:
            pieces: Iterable[Piece]
            if self.settle is None:
                pieces = reader.pieces(chunk)
            else:
                pieces = held = reader.feed(chunk)
                await self._settled(held)
            shown, dropped = self.tally.shown, self.tally.dropped
            try:
                out = b"".join(self._pieces(pieces, state))
            except FhirError:  # nothing of this chunk goes out
                self.tally.shown, self.tally.dropped = shown, dropped
                raise
            if out:
                yield out
        rest = reader.finish()
        await self._settled(rest)
        yield b"".join(self._pieces(rest, state)) + b"}"

    def _by_form(self) -> by_form.ByForm | None:
        """What takes entries by their form: of a search, where nobody looks at more than judge and record do."""
        if self.shape is not None or self.included is not None or self.settle is not None:
            return None
        if self.kind != "searchset" or not any(
            isinstance(each, LookingJudge) for each in self.judges.values()
        ):
            return None
        return by_form.entries(self.upstream, looked_at(self.judges.get))

    def _alike(self, state: "_State") -> AlikeFilter:
        return AlikeFilter(
            judge_of=self.judges.get,
            begins=resource.full_urls(self.upstream, self.public),
            bases=self.bases,
            tally=self.tally,
            is_usual=self._is_asked_for,
            whole=lambda raw: self._entry(raw, plain_object(raw) or exact_object(raw), state),
        )

    def _is_asked_for(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry says no more of itself than that it is one that was asked for, and how good a match."""
        search = entry["search"]
        if search == OF_A_MATCH:
            return True
        mode = search.get("mode")
        return is_known(search) and (mode in ("match", None) or (mode == "include" and self.includes))

    async def _settled(self, pieces: list[Piece]) -> None:
        """What the judges of these entries need to know is found out, for all of them at once."""
        if self.settle is None:
            return
        judging = []
        for value in values(pieces):
            found = value.get("resource")
            if isinstance(found, dict) and isinstance(found.get("resourceType"), str):
                judging += [partial(passes, judge, found) for judge in self._judges(found["resourceType"])]
        await self.settle(judging)

    def _judges(self, type_: str) -> list[Judge]:
        """Whoever may judge an entry of this type."""
        beside = None if self.included is None else self.included.judges.get(type_)
        return [judge for judge in (self.judges.get(type_), beside) if judge is not None]

    def _pieces(self, pieces: Iterable[Piece], state: "_State") -> list[bytes]:
        out: list[bytes] = []
        for piece in pieces:
            match piece:
                case PlainEntries(entries=entries):
                    for raw, value in entries:
                        kept = self._entry(raw, value, state)
                        if kept is not None:
                            out.append(kept if state.first else b"," + kept)
                            state.first = False
                case AlikeEntries(entries=alike):
                    if state.alike is None:
                        raise FhirError(Reason.INTERNAL)
                    if shown := state.alike.shown(alike):
                        self._put(b",".join(shown), out, state)
                case Entry():
                    self._put(self._entry(piece.raw, piece.value, state), out, state)
                case Member(name=name, raw=raw):
                    out.extend(self._member(name, raw, state))
                case EntriesBegin():
                    self._check_proof()
                    out.append(b',"entry":[')
                case EntriesEnd():
                    for raw, value in state.connections.waiting() if state.connections is not None else ():
                        self._put(self._beside(raw, value, state, last=True), out, state)
                    out.append(b"]")
                case End():
                    pass
        return out

    def _member(self, name: str, raw: bytes, state: "_State") -> list[bytes]:
        if name == "type":
            if json.loads(raw) != self.kind:
                raise FhirError(
                    Reason.UPSTREAM_INVALID, f"the answer is not a Bundle of the type {self.kind}"
                )
            return []
        if name == "link":
            return [b',"link":' + self._links(raw), *self._total(state)]
        if name == "total":
            state.total = raw if raw.isdigit() else None
            return self._total(state)
        # Texts alone: what is nested there is nothing of a Bundle, and nobody judged it.
        is_kept = name in _KEPT_MEMBERS and raw.startswith(b'"')
        return [b"," + json.dumps(name).encode() + b":" + raw] if is_kept else []

    def _total(self, state: "_State") -> list[bytes]:
        """The store's total, when it is known by now and known to count nothing that the judge leaves out.

        A store that has not said that it took our criteria may have counted everybody's.
        """
        total = state.total
        if total is None or not self.exact or (self.added and self.tally.narrowing_seen is not True):
            return []
        state.total = None
        return [b',"total":' + total]

    def _links(self, raw: bytes) -> bytes:
        out = [{"relation": "self", "url": self.self_url}]
        value = json.loads(raw)
        for link in value if isinstance(value, list) else []:
            if not isinstance(link, dict):
                raise FhirError(Reason.UPSTREAM_INVALID, "a link of the Bundle is not an object")
            relation, url = link.get("relation"), link.get("url")
            if not isinstance(relation, str) or not isinstance(url, str):
                continue
            if relation == "self":
                self._check_narrowing(url)
            # Where a search ends tells how much there is.
            elif relation in _PAGES and (self.exact or relation != "last"):
                # A store that was told its public address writes its links with that one.
                target = links.below(url, (self.upstream, self.public))
                sealed = None if target is None else self.seal(target)
                if sealed is not None:
                    out.append({"relation": relation, "url": sealed})
        self._check_proof()
        return json.dumps(out, separators=(",", ":"), ensure_ascii=False).encode()

    def _check_proof(self) -> None:
        if self.proof and self.tally.narrowing_seen is not True:
            raise FhirError(Reason.NARROWING_IGNORED)

    def _check_narrowing(self, url: str) -> None:
        seen = proves(url, self.added, self.needed, self.self_link)
        if seen is not None:
            self.tally.narrowing_seen = seen
        if seen is False:
            raise FhirError(Reason.NARROWING_IGNORED)

    def _put(self, kept: bytes | None, out: list[bytes], state: "_State") -> None:
        if kept is not None:
            out.append(kept if state.first else b"," + kept)
            state.first = False

    def _entry(self, raw: bytes, value: dict[str, Any], state: "_State") -> bytes | None:
        """The entry as it goes out; None when it does not."""
        search, found = value.get("search"), value.get("resource")
        mode = search.get("mode") if isinstance(search, dict) else None
        if not isinstance(found, dict):
            self.tally.dropped += 1  # a deleted version shows no owner
            return None
        if mode != "match" and mode is not None and not (mode == "include" and self.includes):
            if mode == "include" and self.included is not None:
                return self._beside(raw, value, state, last=False)
            self.tally.dropped += 1  # outcomes tell what was left out; nobody asked for other modes
            return None
        type_ = found.get("resourceType")
        judge = self.judges.get(type_) if isinstance(type_, str) else None
        if judge is None:
            self.tally.dropped += 1
            return None
        verdict = judge(found)
        if not verdict.shown:
            self.tally.dropped += 1
            return None
        if state.connections is not None:
            state.connections.shown(_seen(found, verdict), depth=0)
        return self._shown(raw, value, verdict, judge)

    def _beside(self, raw: bytes, value: dict[str, Any], state: "_State", *, last: bool) -> bytes | None:
        """An entry that is no match: shown when its judge shows it and something shown leads to it."""
        found, connections = value["resource"], state.connections
        type_ = found.get("resourceType")
        judge = (
            self.included.judges.get(type_) if self.included is not None and isinstance(type_, str) else None
        )
        verdict = None if judge is None else judge(found)
        if connections is None or judge is None or verdict is None or not verdict.shown:
            self.tally.dropped += 1
            return None
        seen = _seen(found, verdict)  # a reference that is hidden leads nowhere
        depth = connections.depth(seen)
        if depth is None:
            # Stores write the matches first. What comes before its match waits for it.
            if last or not connections.wait(raw, value, seen):
                self.tally.dropped += 1
            return None
        connections.shown(seen, depth=depth)
        return self._shown(raw, value, verdict, judge)

    def _shown(self, raw: bytes, value: Mapping[str, Any], verdict: Verdict, judge: Judge) -> bytes:
        tally = self.tally
        tally.shown += 1
        tally.about.note(value["resource"], self.bases)
        if not tally.rules.issuperset(verdict.rules):
            tally.rules.update(verdict.rules)
        if self.shape is None and verdict.seen is None:
            if self.kind == "searchset":
                usual = usual_match(raw, value, self.upstream, self.public)
                if usual is not None:
                    return usual
            if is_plain(value, self.kind, self.upstream, self.public):
                return resource.rewrite_entry(raw, value, upstream=self.upstream, public=self.public)
        # What is written anew has every number as it was.
        entry = plain(exact_object(raw), self.kind, self.public)
        if verdict.seen is not None:
            seen = judge(entry["resource"]).seen
            if seen is None:
                raise FhirError(Reason.INTERNAL)
            if isinstance(response := entry.get("response"), dict):
                for name in headers.hidden_of_meta(entry["resource"], seen):
                    response.pop(_OF_META[name], None)
            entry["resource"] = dict(seen)
        if self.shape is not None:
            entry["resource"] = shaped(entry["resource"], self.shape)
        links.rewrite_urls(entry, upstream=self.upstream, public=self.public)
        return resource.write_resource(entry)


@dataclass(slots=True)
class _State:
    first: bool = True
    total: bytes | None = None
    connections: Connections | None = None
    alike: AlikeFilter | None = None


def passes(judge: Judge, resource: Resource) -> bool:
    """Whether a judge lets a resource pass; it is asked for what it needs to know, before it is asked for good."""
    return judge(resource).shown


def _seen(resource: Resource, verdict: Verdict) -> Resource:
    return resource if verdict.seen is None else verdict.seen
