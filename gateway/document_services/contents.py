"""Content of a store that keeps documents and no Binaries, in the words of FHIR."""

import binascii
from typing import Any

from gateway.proxy.own_answers import own_refusal, own_resource
from gateway.proxy.upstream import UpstreamAnswer

NOT_HERE = "this document service has no such thing"
ANY = "text/xml, application/xml;q=0.9, */*;q=0.5"


def without_content(id_: str, media_type: str, etag: str) -> UpstreamAnswer:
    """A Binary of which nobody asked for the content."""
    return own_resource({"resourceType": "Binary", "id": id_, "contentType": media_type}, etag=etag)


async def as_binary(
    answer: UpstreamAnswer, id_: str, media_type: str, etag: str, limit_bytes: int
) -> UpstreamAnswer:
    """The content that the store answers with as a resource. Raises FhirError for one longer than limit_bytes."""
    try:
        if answer.status != 200:
            return missing(answer)
        content = await answer.read(limit_bytes)
    finally:
        answer.close()
    data = binascii.b2a_base64(content, newline=False).decode("ascii")
    value: dict[str, Any] = {"resourceType": "Binary", "id": id_, "contentType": media_type, "data": data}
    return own_resource(value, etag=etag)


def missing(answer: UpstreamAnswer) -> UpstreamAnswer:
    """What an answer without the document becomes."""
    return own_refusal(404 if answer.status in (404, 410) else 502, NOT_HERE)


def media_type_of(answer: UpstreamAnswer) -> str:
    """The type of the content, in lower case and without parameters."""
    return (
        answer.headers.get("content-type", "").partition(";")[0].strip().lower() or "application/octet-stream"
    )


def tag_of(answer: UpstreamAnswer) -> str:
    """The ETag; of a store without one, what it says of date and length: what is neither was not the same."""
    tag = answer.headers.get("etag", "")
    if tag:
        return tag
    said = [answer.headers.get(name, "") for name in ("last-modified", "content-length")]
    return f'W/"{said[0].replace(" ", "").replace(",", "-")}-{said[1]}"' if any(said) else ""
