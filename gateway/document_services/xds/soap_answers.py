"""Answers of registries and repositories, read by the parser of documents: no DTD, nothing from outside, bounded.

An answer to another request than ours is none: action and RelatesTo are looked at (WS-Addressing 1.0 3.2).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway.cda.parser import BlockParser, DocumentError
from gateway.document_services.xds.canonical_xml import NAMESPACES
from gateway.fhir.outcome import FhirError, Reason

MAX_ELEMENTS = 200_000
_SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
_NOT_THERE = frozenset({"XDSDocumentUniqueIdError", "XDSUnknownDocumentId"})
_log = logging.getLogger("securus.upstream")


@dataclass(slots=True)
class Node:
    """An element of an answer. name has the prefix that its namespace has here, '?' for another one."""

    name: str
    attributes: dict[str, str]
    children: list["Node"] = field(default_factory=list)
    text: str = ""

    def all(self, *path: str) -> Iterator["Node"]:
        """Every element at a path below."""
        for child in self.children:
            if child.name == path[0]:
                if len(path) == 1:
                    yield child
                else:
                    yield from child.all(*path[1:])

    def one(self, *path: str) -> "Node | None":
        """The only element at a path; None for none. Raises FhirError where there are more."""
        found = list(self.all(*path))
        if len(found) > 1:
            raise FhirError(Reason.UPSTREAM_INVALID, f"the answer has more than one {path[-1]}")
        return found[0] if found else None

    def said(self, *path: str) -> str:
        """The text of the only element at a path; '' without one."""
        found = self.one(*path)
        return "" if found is None else found.text.strip()


class _Tree(BlockParser):
    def __init__(self) -> None:
        super().__init__(stylesheets=False)
        self._prefixes = {uri: prefix for prefix, uri in NAMESPACES.items()}
        self._open: list[Node] = []
        self._count = 0
        self.root: Node | None = None
        self._parser.CharacterDataHandler = self._text

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise DocumentError(f"the answer has more than {MAX_ELEMENTS} elements")
        namespace, _, local = name.rpartition(" ")
        node = Node(
            f"{self._prefixes.get(namespace, '?')}:{local}",
            dict(zip(attributes[::2], attributes[1::2], strict=True)),
        )
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def read_end(self, depth: int) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1].text += text


def body_of(content: bytes, *, action: str, message_id: str) -> Node:
    """What the body of an envelope holds, the answer to this message. Raises FhirError(UPSTREAM_INVALID)."""
    tree = _Tree()
    try:
        tree.feed(content)
        tree.finish()
    except DocumentError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, f"the answer is not a SOAP envelope: {error}") from error
    root = tree.root
    if root is None or root.name != "env:Envelope":
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a SOAP 1.2 envelope")
    body = root.one("env:Body")
    if body is None or len(body.children) != 1:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer has no body")
    if body.children[0].name == "env:Fault":
        code = body.children[0].said("env:Code", "env:Subcode", "env:Value")
        _log.warning("a registry or repository answers with a fault", extra={"cause": code[:200]})
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is a SOAP fault")
    if root.said("env:Header", "wsa:Action") != f"{action}Response":
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is one to another action")
    if root.said("env:Header", "wsa:RelatesTo") != message_id:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is one to another message")
    return body.children[0]


def check_success(response: Node | None) -> None:
    """Raise FhirError unless a registry response says success: NOT_FOUND where the document is not there."""
    status = None if response is None else response.attributes.get("status")
    if response is not None and status == _SUCCESS:
        return
    errors = [] if response is None else list(response.all("rs:RegistryErrorList", "rs:RegistryError"))
    codes = {each.attributes.get("errorCode", "") for each in errors}
    if codes and codes <= _NOT_THERE:
        raise FhirError(Reason.NOT_FOUND)
    cause = ", ".join(sorted(codes))[:200]
    _log.warning("a registry or repository refuses", extra={"cause": cause})
    raise FhirError(Reason.UPSTREAM_INVALID, "the registry or repository answered with an error of its own")
