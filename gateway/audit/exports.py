"""The whole log as one file: records, signed heads and stubs, so that it can be verified where there is no store.

One JSON object a line: {"head": JWS}, {"chain": name, "stub": JWS} and {"chain": name, "record": line}; heads first, then
each chain with its stubs before its records. Digests are not in it: they follow from the records.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from authz.storage.audit_lines import AuditLine
from authz.storage.audit_seals import Stub, TreeHead
from authz.storage.store import StoreUnavailable
from gateway.audit.heads import BadSeal, read_head, read_stub
from gateway.audit.lines import genesis, place_of
from gateway.audit.verification import AuditSource

_PAGE = 1000


async def export(source: AuditSource) -> AsyncIterator[str]:
    """The lines of such a file."""
    number = 0
    while heads := await source.tree_heads(after=number, limit=_PAGE):
        for head in heads:
            yield json.dumps({"head": head.head.decode("ascii")})
        number = heads[-1].number
    for chain in await source.chains():
        retired = await source.stubs(chain)
        for stub in retired:
            yield json.dumps({"chain": chain, "stub": stub.stub.decode("ascii")})
        sequence = 0
        while lines := await source.audit(chain=chain, after=sequence, limit=_PAGE):
            for line in lines:
                if not any(stub.first <= line.sequence <= stub.last for stub in retired):
                    yield json.dumps(
                        {"chain": chain, "record": line.line.decode("utf-8")}, ensure_ascii=False
                    )
            sequence = lines[-1].sequence


class _Row(msgspec.Struct):
    chain: str = ""
    record: str | None = None
    stub: str | None = None
    head: str | None = None


class Exported:
    """A log as an export holds it. It is read from its beginning to its end, so ask for records in their order."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable when the file is not an export, OSError."""
        self._path = path
        self._heads: list[TreeHead] = []
        self._stubs: dict[str, list[Stub]] = {}
        self._begin: dict[str, int] = {}
        self._ends: dict[str, tuple[int, bytes]] = {}
        self._reader: tuple[str, int, Iterator[AuditLine]] | None = None
        for offset, row in self._rows(0):
            self._take(offset, row)

    async def chains(self) -> Sequence[str]:
        """Those that have a record or a stub."""
        return sorted({*self._begin, *self._stubs})

    async def audit_head(self, chain: str = "") -> tuple[int, bytes] | None:
        """The end of what is there: an export has no head of its own beside the signed ones."""
        if chain not in self._ends:
            self._ends[chain] = (0, genesis(chain))
            for line in self._lines(chain):
                self._ends[chain] = (line.sequence, line.digest)
            for stub in self._stubs.get(chain, []):
                if stub.last > self._ends[chain][0]:
                    self._ends[chain] = (stub.last, read_stub(stub.stub, None).after)
        return self._ends[chain]

    async def tree_heads(self, *, after: int, limit: int) -> Sequence[TreeHead]:
        """Heads in the order of the file."""
        return [head for head in self._heads if head.number > after][:limit]

    async def stubs(self, chain: str) -> Sequence[Stub]:
        """The stubs of a chain."""
        return self._stubs.get(chain, [])

    async def audit(self, *, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]:
        """At most limit records after that sequence."""
        if self._reader is None or self._reader[:2] != (chain, after):
            lines: Iterator[AuditLine] = (line for line in self._lines(chain) if line.sequence > after)
        else:
            lines = self._reader[2]
        found = [line for _, line in zip(range(limit), lines, strict=False)]
        self._reader = (chain, found[-1].sequence if found else after, lines)
        return found

    def _take(self, offset: int, row: _Row) -> None:
        if row.record is not None:
            self._begin.setdefault(row.chain, offset)
        try:
            if row.stub is not None:
                said = read_stub(row.stub.encode(), None)
                stub = Stub(row.chain, said.first, said.last, row.stub.encode())
                self._stubs.setdefault(row.chain, []).append(stub)
            if row.head is not None:
                head = row.head.encode()
                self._heads.append(TreeHead(read_head(head, None).number, head, b""))
        except (BadSeal, UnicodeEncodeError) as error:
            raise StoreUnavailable(f"'{self._path}' holds a head or stub that cannot be read") from error

    def _lines(self, chain: str) -> Iterator[AuditLine]:
        """The records of a chain with the digests that follow from them; the first after a stub follows that."""
        if chain not in self._begin:
            return
        after = {stub.last: read_stub(stub.stub, None).after for stub in self._stubs.get(chain, [])}
        digest, sequence = genesis(chain), 0
        for _, row in self._rows(self._begin[chain]):
            if row.record is None or row.chain != chain:
                return
            line = row.record.encode("utf-8", "surrogatepass")
            place = place_of(line)
            sequence = sequence + 1 if place is None else place.seq
            digest = after.get(sequence - 1, digest)
            following = sha256(digest + line).digest()
            yield AuditLine(sequence, digest, following, line, chain)
            digest = following

    def _rows(self, offset: int) -> Iterator[tuple[int, _Row]]:
        with self._path.open("rb") as file:
            file.seek(offset)
            while text := file.readline():
                try:
                    yield offset, msgspec.json.decode(text, type=_Row)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise StoreUnavailable(f"'{self._path}' is no export of an audit log") from error
                offset = file.tell()
