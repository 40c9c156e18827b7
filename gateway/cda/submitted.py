"""A clinical document that is to be filed: read to its end, its structure and what it carries looked at on the way.

HL7 CDA R2 4.2: what stands in ClinicalDocument, in which order, and what must. Elements of other namespaces are
extensions, and stand anywhere. Content in a document (ED, of nonXMLBody, observationMedia and wherever else) is judged
by its declared type and by its bytes.
"""

from collections.abc import Sequence

from gateway.cda.body_structure import BodyStructure
from gateway.cda.harmful import Base64Watch, ContentWatch, Harm
from gateway.cda.header_reader import HeaderReader
from gateway.cda.parser import DocumentError

_V3 = "urn:hl7-org:v3"
# name, whether it must be there, whether it may be there more than once
_CHILDREN: tuple[tuple[str, bool, bool], ...] = (
    ("realmCode", False, True), ("typeId", True, False), ("templateId", False, True), ("id", True, False),
    ("code", True, False), ("title", False, False), ("effectiveTime", True, False), ("confidentialityCode", True, False),
    ("languageCode", False, False), ("setId", False, False), ("versionNumber", False, False), ("copyTime", False, False),
    ("recordTarget", True, True), ("author", True, True), ("dataEnterer", False, False), ("informant", False, True),
    ("custodian", True, False), ("informationRecipient", False, True), ("legalAuthenticator", False, False),
    ("authenticator", False, True), ("participant", False, True), ("inFulfillmentOf", False, True),
    ("documentationOf", False, True), ("relatedDocument", False, True), ("authorization", False, True),
    ("componentOf", False, False), ("component", True, False),
)  # fmt: skip
_ORDER = {name: place for place, (name, _, _) in enumerate(_CHILDREN)}
_INSIDE = {
    "recordTarget": frozenset({"patientRole"}),
    "author": frozenset({"time", "assignedAuthor"}),
    "custodian": frozenset({"assignedCustodian"}),
}
_TYPE_ID = ("2.16.840.1.113883.1.3", "POCD_HD000040")
_NARRATIVE = "text/x-hl7-text+xml"
_BODIES = frozenset({"structuredBody", "nonXMLBody"})


class SubmittedReader(HeaderReader):
    """Reads one document. feed() and finish() raise DocumentError, and RefusedContent for what it carries."""

    def __init__(self, *, refused: frozenset[Harm], checks_structure: bool) -> None:
        super().__init__(stylesheets=False)
        self._refused = refused
        self._checks_structure = checks_structure
        self._body = BodyStructure()
        self._place = -1
        self._child = ""
        self._inside: set[str] = set()
        self._depth_of_content: int | None = None
        self._content: Base64Watch | ContentWatch | None = None

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        """An element begins."""
        super().read_start(name, attributes, depth)
        if not self.is_document:
            return
        said = dict(zip(attributes[::2], attributes[1::2], strict=True))
        namespace, _, local = name.rpartition(" ")
        if self._content is not None and self._content_is_base64:
            raise DocumentError("content in base64 has elements")
        if self._content is None and (
            "representation" in said or "mediaType" in said or "compression" in said
        ):
            self._open(said, depth)
        if self._checks_structure and namespace == _V3:
            self._check(local, said, depth)

    def read_end(self, depth: int) -> None:
        """An element ends."""
        if self._content is not None and depth == self._depth_of_content:
            self._close()
        if self.is_document and self._checks_structure and depth == 1:
            self._check_whole()
        self._body.ends(depth)
        super().read_end(depth)
        if self.is_document and self._checks_structure and depth == 0:
            self._check_end(len(_CHILDREN))

    # Structure

    def _check(self, local: str, said: dict[str, str], depth: int) -> None:
        if self._child == "component" and depth > 1:
            self._body.begins(local, depth)
        if depth == 2:
            if self._child == "component" and local in _BODIES and not self._inside.isdisjoint(_BODIES):
                raise DocumentError("the document has more than one body")
            self._inside.add(local)
        if depth != 1:
            return
        place = _ORDER.get(local)
        if place is None:
            raise DocumentError("a ClinicalDocument has an element that CDA R2 does not know there")
        if place < self._place or (place == self._place and not _CHILDREN[place][2]):
            raise DocumentError(f"{local} of the document is not at its place, or there twice (CDA R2 4.2)")
        self._check_end(place)
        self._place, self._child = place, local
        self._inside.clear()
        if local == "typeId" and (said.get("root"), said.get("extension")) != _TYPE_ID:
            raise DocumentError("typeId of the document is not that of CDA R2")

    def _check_end(self, place: int) -> None:
        for name, is_required, _ in _CHILDREN[self._place + 1 : place]:
            if is_required:
                raise DocumentError(f"the document has no {name} (CDA R2 4.2)")

    def _check_whole(self) -> None:
        wanted = _INSIDE.get(self._child, frozenset())
        if not wanted <= self._inside or (self._child == "component" and self._inside.isdisjoint(_BODIES)):
            raise DocumentError(f"{self._child} of the document is not complete (CDA R2 4.2)")

    # What the document carries

    @property
    def _content_is_base64(self) -> bool:
        return isinstance(self._content, Base64Watch)

    def _open(self, said: dict[str, str], depth: int) -> None:
        media_type = said.get("mediaType", "text/plain")
        if said.get("compression"):
            media_type = "application/gzip"  # whatever is in it
        if media_type == _NARRATIVE:
            return
        watch = ContentWatch(media_type, self._refused)
        self._depth_of_content = depth
        self._content = Base64Watch(watch) if said.get("representation") == "B64" else watch
        self._parser.CharacterDataHandler = self._characters

    def _characters(self, text: str) -> None:
        if isinstance(self._content, Base64Watch):
            try:
                self._content.feed(text)
            except ValueError as error:
                raise DocumentError("content of the document is not base64") from error
        elif self._content is not None:
            self._content.feed(text.encode())

    def _close(self) -> None:
        self._parser.CharacterDataHandler = None
        content, self._content, self._depth_of_content = self._content, None, None
        try:
            if content is not None:
                content.finish()
        except ValueError as error:
            raise DocumentError("content of the document is not base64") from error
