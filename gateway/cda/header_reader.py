"""Reads the header of a clinical document as its bytes come, and watches that what follows does not take it back.

HL7 CDA R2 4.2: the header is what stands in ClinicalDocument before `component`. Every name is looked at with its
namespace. An element of the header that another reader could take for one though it is none (another namespace), that
comes twice where one is allowed, or that comes after the body, is refused: two readers would see two documents.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.cda.header import Code, DocumentOrganization, Header, InstanceIdentifier
from gateway.cda.parser import BlockParser, DocumentError

MAX_HEADER_BYTES = 256 * 1024
MAX_TARGETS = 16
MAX_IDENTIFIERS = 64
_MAX_VALUE = 1024  # characters of one attribute that is kept, and of a name
_V3 = "urn:hl7-org:v3"
_ONCE = ("id", "code", "confidentialityCode", "effectiveTime", "custodian")
_DECISIVE = frozenset({*_ONCE, "recordTarget", "author", "component"})
_PATIENT_ID = ("recordTarget", "patientRole", "id")
_AUTHOR = ("author", "assignedAuthor", "representedOrganization")
_CUSTODIAN = ("custodian", "assignedCustodian", "representedCustodianOrganization")


class HeaderReader(BlockParser):
    """Reads one document. feed() and finish() raise DocumentError for what is not taken.

    is_document  whether the root is a ClinicalDocument of CDA R2; None while that is not known
    header       None until the whole of it was read
    """

    def __init__(self, *, stylesheets: bool = True, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        super().__init__(stylesheets=stylesheets)
        self._max_header_bytes = max_header_bytes
        self.is_document: bool | None = None
        self.header: Header | None = None
        self._path: list[str] = []  # below the root; '' for what is in another namespace
        self._seen: set[str] = set()
        self._targets: list[list[InstanceIdentifier]] = []
        self._roles = 0
        self._codes: dict[str, Code] = {}
        self._effective_time = ""
        self._id: InstanceIdentifier | None = None
        self._language = ""
        self._consents: list[InstanceIdentifier] = []
        self._has_begun_body = False
        self._authors: list[DocumentOrganization] = []
        self._custodian: DocumentOrganization | None = None
        self._ids: list[InstanceIdentifier] = []
        self._name: list[str] | None = None

    @property
    def is_decided(self) -> bool:
        """Whether all is known that a decision looks at."""
        return self.is_document is False or (self.header is not None and self._has_begun_body)

    def finish(self) -> None:
        """There are no more bytes."""
        super().finish()
        if self.header is None and self.is_document:
            self.header = self._whole()
        self._has_begun_body = True

    def read_block(self, fed: int) -> None:
        """Refuse a header that goes on and on."""
        if not self.is_decided and fed > self._max_header_bytes:
            raise DocumentError(f"the header of the document is longer than {self._max_header_bytes} bytes")

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        """An element begins."""
        namespace, _, local = name.rpartition(" ")
        if depth == 0:
            self.is_document = namespace == _V3 and local == "ClinicalDocument"
            if local == "ClinicalDocument" and not self.is_document:
                raise DocumentError("the document is a ClinicalDocument of another namespace")
            return
        if not self.is_document:
            return
        if depth == 1:
            self._check_child(namespace, local)
        if self.header is not None:
            if not self._has_begun_body:
                is_file = namespace == _V3 and local == "nonXMLBody"
                self.header = replace(self.header, is_unstructured=is_file)
                self._has_begun_body = True
            return
        if depth == 1 and local == "component":
            self.header = self._whole()
            self._path.clear()
            self._parser.CharacterDataHandler = None
            return
        self._path.append(local if namespace == _V3 else "")
        if namespace != _V3 and (*self._path[:-1], local) in (_PATIENT_ID, _PATIENT_ID[:2]):
            raise DocumentError(f"a record target has a {local} of another namespace")
        self._read(tuple(self._path), dict(zip(attributes[::2], attributes[1::2], strict=True)))

    def read_end(self, depth: int) -> None:
        """An element ends."""
        if depth == 0 or not self.is_document or self.header is not None:
            return
        path = tuple(self._path)
        if path in (_AUTHOR, _CUSTODIAN):
            found = DocumentOrganization(tuple(self._ids), "".join(self._name or ()).strip())
            self._ids, self._name = [], None
            if path == _AUTHOR:
                self._authors.append(found)
            else:
                self._custodian = found
        elif path[:-1] in (_AUTHOR, _CUSTODIAN) and path[-1] == "name":
            self._parser.CharacterDataHandler = None
        self._path.pop()

    def _check_child(self, namespace: str, local: str) -> None:
        if local in _DECISIVE and namespace != _V3:
            raise DocumentError(f"the document has a {local} of another namespace")
        if self.header is not None and namespace == _V3:
            raise DocumentError("the document goes on with its header after the body")
        if local in _ONCE and local in self._seen:
            raise DocumentError(f"the document has more than one {local}")
        self._seen.add(local)

    def _read(self, path: tuple[str, ...], attributes: dict[str, str]) -> None:
        match path:
            case ("recordTarget",):
                if len(self._targets) >= MAX_TARGETS:
                    raise DocumentError(f"the document has more than {MAX_TARGETS} record targets")
                self._targets.append([])
                self._roles = 0
            case ("recordTarget", "patientRole"):
                self._roles += 1
                if self._roles > 1:
                    raise DocumentError("a record target has more than one patient role")
            case ("code" | "confidentialityCode" as name,):
                self._codes[name] = Code(_kept(attributes, "code"), _kept(attributes, "codeSystem"))
            case ("effectiveTime",):
                self._effective_time = _kept(attributes, "value")
            case ("languageCode",):
                self._language = _kept(attributes, "code")
            case ("id",):
                root = _kept(attributes, "root")
                self._id = InstanceIdentifier(root, _kept(attributes, "extension")) if root else None
            case ("authorization", "consent", "id"):
                self._add(self._consents, attributes)
            case _ if path == _PATIENT_ID:
                self._add(self._targets[-1], attributes)
            case (*above, "id") if tuple(above) in (_AUTHOR, _CUSTODIAN):
                self._add(self._ids, attributes)
            case (*above, "name") if tuple(above) in (_AUTHOR, _CUSTODIAN) and self._name is None:
                self._name = []
                self._parser.CharacterDataHandler = self._text
            case _:
                pass

    def _add(self, ids: list[InstanceIdentifier], attributes: dict[str, str]) -> None:
        if len(ids) >= MAX_IDENTIFIERS:
            raise DocumentError(f"the document names somebody by more than {MAX_IDENTIFIERS} identifiers")
        root, extension = _kept(attributes, "root"), _kept(attributes, "extension")
        if root:  # a nullFlavor in its place names nobody
            ids.append(InstanceIdentifier(root, extension))
        elif extension:
            raise DocumentError("an identifier of the document has no root")

    def _text(self, text: str) -> None:
        if self._name is not None and sum(map(len, self._name)) < _MAX_VALUE:
            self._name.append(text[:_MAX_VALUE])

    def _whole(self) -> Header:
        return Header(
            record_targets=tuple(map(tuple, self._targets)),
            confidentiality=self._codes.get("confidentialityCode"),
            code=self._codes.get("code"),
            authors=tuple(self._authors),
            custodian=self._custodian,
            effective_time=self._effective_time,
            id=self._id,
            language=self._language,
            consents=tuple(self._consents),
        )


def header_of(content: bytes, *, stylesheets: bool = True) -> Header | None:
    """The header of a whole document; None for what is no clinical document. Raises DocumentError."""
    if not looks_like_xml(content):
        return None
    reader = HeaderReader(stylesheets=stylesheets)
    reader.feed(content)
    reader.finish()
    return reader.header


def looks_like_xml(beginning: bytes) -> bool:
    """Whether content begins as XML does, in any encoding: everything else is no clinical document."""
    plain = beginning.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if plain.startswith((b"<", b"+ADw")):
        return True
    # XML 1.0 F.1: byte order marks and the first '<' of wider encodings, and of EBCDIC.
    return beginning.startswith(
        (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff", b"\x00<", b"\x00\x00\x00<", b"<\x00", b"Lo\xa7\x94")
    )


def _kept(attributes: dict[str, str], name: str) -> str:
    value = attributes.get(name, "").strip()
    if len(value) > _MAX_VALUE:
        raise DocumentError(f"a value of the header is longer than {_MAX_VALUE} characters")
    return value
