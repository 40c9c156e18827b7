"""Which of the store's page links are links to pages of what was asked, by the profile of the store.

A store's link is opened for the caller without another look at its parameters, so what it may say is known before:
the search as it was sent, and the names by which stores of this make count their pages.
"""

from urllib.parse import unquote

from authz.protocol.encoding import parse_query
from gateway.fhir import request_target
from gateway.fhir.interaction import FhirRequest
from gateway.settings import UpstreamProfile


def is_page(target: str, sent: FhirRequest, profile: UpstreamProfile) -> bool:
    """Whether target, a path and query below the store's base, is a page of the request that was sent."""
    path, _, query = target.partition("?")
    try:
        names = {code_of(name) for name, _ in parse_query(query)}
    except ValueError:
        return False
    if names & profile.never_parameters:
        return False
    return _is_place(path, sent, profile) and names <= profile.page_parameters | {t.code for t in sent.terms}


def code_of(name: str) -> str:
    """The parameter that a name with modifier or chain is of."""
    return name.partition(":")[0].partition(".")[0]


def _is_place(path: str, sent: FhirRequest, profile: UpstreamProfile) -> bool:
    path = unquote(path).strip("/")
    asked = request_target.upstream_target(sent).partition("?")[0]
    if "asked" in profile.page_links and path in (asked, asked.removesuffix("/_search")):
        return True
    if path == "":
        return "base" in profile.page_links
    first, *rest = path.split("/")
    token = [first, *rest] if first.startswith("__") else rest
    own = first.startswith("__") or first == sent.type
    return own and bool(token) and token[0] in profile.page_links and ".." not in token
