"""Which client a service of documents has, by the kind of its mount."""

from collections.abc import Callable

from gateway.document_services.mhd import MhdDocuments
from gateway.document_services.rest import RestDocuments
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import DocumentSettings, Upstream


def document_service(
    upstream: Upstream,
    settings: DocumentSettings,
    observe: Callable[[float], None],
    patients: UpstreamClient,
) -> UpstreamClient:
    """The client of a mount whose patients are known by another one, patients. Whoever asks for it closes it."""
    if upstream.kind == "mhd":
        return MhdDocuments(upstream, observe, patients)
    return RestDocuments(upstream, settings, observe, patients)
