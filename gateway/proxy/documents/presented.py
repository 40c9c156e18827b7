"""A clinical document on its way out as a page: what goes into the page is what would have gone out."""

from collections.abc import AsyncIterator

from gateway.cda.parser import DocumentError
from gateway.cda.view import View
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.trail import Trail


async def presented(pieces: AsyncIterator[bytes], trail: Trail, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The page as the document's pieces come; max_bytes is of the document. Raises FhirError(UPSTREAM_INVALID)."""
    view, size = View(), 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > max_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, "the content is larger than max_body")
            view.is_withheld = trail.withheld is not None
            out = view.feed(piece)
            if out:
                yield out
        view.is_withheld = trail.withheld is not None
        out = view.finish()
    except DocumentError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, str(error)) from error
    yield out
