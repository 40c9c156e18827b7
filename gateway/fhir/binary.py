"""A Binary as JSON without its content: the members that decide, from a body that may be far larger than memory.

FHIR R4 2.41: data is the content in base64. Its text is dropped as it comes; all else is kept and read as strictly as
every resource.
"""

import re
from typing import Any

from gateway.fhir import resource
from gateway.fhir.outcome import FhirError, Reason

MAX_MEMBERS_BYTES = 64 * 1024
_MARK = re.compile(rb'["{}\[\],]')
_END = re.compile(rb'["\\]')


class BinaryMembers:
    """Takes a Binary in pieces; members() gives it with an empty data where it has one."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._depth = 0
        self._is_name = False  # whether the next string of the resource itself is the name of a member
        self._name = b""
        self._begun: int | None = None  # where in _kept the string that is being read begins
        self._is_data = False
        self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece. Raises FhirError(UPSTREAM_INVALID): too much beside the content."""
        at = 0
        while at < len(chunk):
            at = self._string(chunk, at) if self._begun is not None else self._between(chunk, at)
        if len(self._kept) > MAX_MEMBERS_BYTES:
            raise FhirError(Reason.UPSTREAM_INVALID, "the Binary has more beside its content than is read")

    def members(self) -> dict[str, Any]:
        """The Binary without its content. Raises FhirError(UPSTREAM_INVALID)."""
        try:
            value = resource.parse_resource(bytes(self._kept))
        except FhirError as error:
            raise FhirError(
                Reason.UPSTREAM_INVALID, "the answer is not a resource with one reading"
            ) from error
        if value["resourceType"] != "Binary":
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a Binary")
        return value

    def _between(self, chunk: bytes, at: int) -> int:
        mark = _MARK.search(chunk, at)
        end = len(chunk) if mark is None else mark.end()
        self._kept += chunk[at:end]
        match None if mark is None else mark[0]:
            case b"{" | b"[":
                self._depth += 1
                self._is_name = self._depth == 1
            case b"}" | b"]":
                self._depth -= 1
            case b",":
                self._is_name = self._depth == 1
            case b'"':
                self._begun = len(self._kept)
                self._is_data = self._depth == 1 and not self._is_name and self._name == b"data"
            case _:
                pass
        return end

    def _string(self, chunk: bytes, at: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            self._keep(chunk[at : at + 1])
            return at + 1
        mark = _END.search(chunk, at)
        end = len(chunk) if mark is None else mark.start()
        self._keep(chunk[at:end])
        if mark is None:
            return end
        if mark[0] == b"\\":
            self._is_escaped = True
            self._keep(b"\\")
            return end + 1
        if self._is_name and self._depth == 1:
            self._name, self._is_name = bytes(self._kept[self._begun :]), False
        self._kept += b'"'
        self._begun = None
        return end + 1

    def _keep(self, piece: bytes) -> None:
        if not self._is_data:
            self._kept += piece
