"""Requests to a registry and to repositories as SOAP 1.2 envelopes with WS-Addressing (IHE ITI TF-2x, Appendix V).

A request to a repository travels as MTOM; one to a registry as the envelope alone.
"""

from collections.abc import Iterable, Mapping

from gateway.document_services.xds.canonical_xml import Element, element, written

QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"  # ITI-18
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"  # ITI-43
PROVIDE = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"  # ITI-41
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
_ANONYMOUS = "http://www.w3.org/2005/08/addressing/anonymous"
_ROOT = "<root@securus>"
DOCUMENT = "document@securus"
"""The Content-ID of a document on its way out, without its angle brackets."""


def envelope(action: str, to: str, message_id: str, assertion: Element | None, body: Element) -> bytes:
    """An envelope. Raises ValueError for a text that XML cannot hold."""
    headers = [
        element("wsa:Action", action, env__mustUnderstand="true"),
        element("wsa:MessageID", message_id),
        element("wsa:ReplyTo", element("wsa:Address", _ANONYMOUS)),
        element("wsa:To", to, env__mustUnderstand="true"),
    ]
    if assertion is not None:
        headers.append(element("wsse:Security", assertion, env__mustUnderstand="true"))
    whole = element("env:Envelope", element("env:Header", *headers), element("env:Body", body))
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + written(whole)


def plain_type(action: str) -> str:
    """The Content-Type of an envelope by itself (RFC 3902)."""
    return f'application/soap+xml; charset=UTF-8; action="{action}"'


def mtom_type(action: str, boundary: str) -> str:
    """The Content-Type of an envelope as MTOM (XOP 1.0 5, RFC 2387)."""
    return (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; start="{_ROOT}"; '
        f'start-info="application/soap+xml"; action="{action}"'
    )


def root_part(action: str, boundary: str, content: bytes) -> bytes:
    """The part with the envelope, up to the boundary that follows."""
    head = (
        f"--{boundary}\r\n"
        f'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml; action=\\"{action}\\""\r\n'
        f"Content-Transfer-Encoding: binary\r\nContent-ID: {_ROOT}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"


def document_head(boundary: str, media_type: str) -> bytes:
    """What stands before the bytes of a document."""
    return (
        f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: <{DOCUMENT}>\r\n\r\n"
    ).encode()


def end(boundary: str) -> bytes:
    """What stands after the last part, whose line end was written."""
    return f"--{boundary}--\r\n".encode()


def stored_query(query: str, parameters: Mapping[str, str]) -> Element:
    """ITI-18, with whole entries as the answer."""
    return element(
        "query:AdhocQueryRequest",
        element("query:ResponseOption", returnComposedObjects="true", returnType="LeafClass"),
        element("rim:AdhocQuery", *(slot(name, [value]) for name, value in parameters.items()), id=query),
    )


def retrieval(repository: str, unique_id: str, home: str | None) -> Element:
    """ITI-43 of one document."""
    named = [
        element("xds:RepositoryUniqueId", repository),
        element("xds:DocumentUniqueId", unique_id),
    ]
    if home:
        named.insert(0, element("xds:HomeCommunityId", home))
    return element("xds:RetrieveDocumentSetRequest", element("xds:DocumentRequest", *named))


def slot(name: str, values: Iterable[str]) -> Element:
    """A slot of ebRIM."""
    listed = element("rim:ValueList", *(element("rim:Value", value) for value in values))
    return element("rim:Slot", listed, name=name)


def quoted(text: str) -> str:
    """A text as a value of a stored query."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Iterable[str]) -> str:
    """Texts as a list in a value of a stored query."""
    return "(" + ",".join(map(quoted, texts)) + ")"
