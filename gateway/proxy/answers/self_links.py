"""What the self link of a searchset proves: whether the store took the criteria that were sent."""

from urllib.parse import urlsplit

from authz.protocol.encoding import parse_query
from gateway.fhir.search import plain
from gateway.settings import SelfLink


def proves(url: str, added: tuple[str, ...], needed: frozenset[str], self_link: SelfLink) -> bool | None:
    """Whether the self link of a search shows that the criteria in added were taken, and all parameters that it needed.

    self_link is what that of this store, for this search, is known to prove. None where it proves nothing.
    """
    if not (added or needed) or self_link is SelfLink.UNRELIABLE:
        return None
    if self_link is SelfLink.SILENT and is_silent(url):
        return None
    if not needed <= named(url):
        return False
    return echoes(url, added) if added else None


def is_silent(url: str) -> bool:
    """Whether a self link is only the place a form was posted to, as HAPI FHIR writes it: it names no criterion."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.path.endswith("/_search") and not parts.query


def echoes(url: str, added: tuple[str, ...]) -> bool:
    """Whether the self link of a search names every criterion that was added, however it is encoded."""
    try:
        said = {f"{name}={value}" for name, value in parse_query(urlsplit(url).query)}
    except ValueError:
        return False
    return all(text in said for text in added)


def named(url: str) -> frozenset[str]:
    """The parameters that the self link of a search names, without modifiers and types; none where it cannot be read."""
    try:
        return frozenset(plain(name) for name, _ in parse_query(urlsplit(url).query))
    except ValueError:
        return frozenset()
