"""Whether a caller already has what a read would show (RFC 9110 13.1, FHIR R4 3.1.0.1.2).

The headers never reach the store: 304 is an answer about a resource, so it is given only after the judge has seen the
current version. Who may not see it gets the answer to an id that nobody has, whatever the headers say.
"""

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from authz.protocol.request import HttpRequest
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.search import READ_PARAMETERS

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_TAGS = re.compile(rf"[ \t]*{_TAG.pattern}(?:[ \t]*,[ \t]*{_TAG.pattern})*[ \t]*")


def is_current(http: HttpRequest, asked: FhirRequest, said: Sequence[tuple[str, str]]) -> bool:
    """Whether the caller's copy is the one whose ETag and Last-Modified stand in said.

    Of a header that cannot be read, and of a read in another form than the whole resource, the answer is no.
    """
    if asked.interaction not in (Interaction.READ, Interaction.VREAD):
        return False
    if any(term.code not in READ_PARAMETERS for term in asked.terms):
        return False
    fields = dict(said)
    if "if-none-match" in http.headers:  # RFC 9110 13.2.2: then If-Modified-Since does not count
        return _matches(http.headers["if-none-match"], fields.get("ETag", ""))
    if "if-modified-since" in http.headers:
        return _is_unchanged(http.headers["if-modified-since"], fields.get("Last-Modified", ""))
    return False


def _matches(condition: str, etag: str) -> bool:
    current = _TAG.fullmatch(etag)
    if current is None or not _TAGS.fullmatch(condition):
        return False
    return current[1] in _TAG.findall(condition)  # weak comparison, RFC 9110 8.8.3.2


def _is_unchanged(condition: str, modified: str) -> bool:
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(condition)
    except (ValueError, TypeError):  # no date, or one without its zone
        return False
