"""Which client a service of documents has, by the kind of its mount. Only the client of a kind that is there is imported."""

from collections.abc import Callable

from authz.clock import Clock
from gateway.document_settings import DocumentSettings
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream


def document_service(
    upstream: Upstream,
    settings: DocumentSettings,
    observe: Callable[[float], None],
    patients: UpstreamClient,
    clock: Clock,
) -> UpstreamClient:
    """The client of a mount whose patients are known by another one, patients. Whoever asks for it closes it.

    Raises OSError, ValueError where a key that the settings name cannot be used.
    """
    if upstream.kind == "mhd":
        from gateway.document_services.mhd import MhdDocuments

        return MhdDocuments(upstream, observe, patients)
    if settings.xds is not None:
        from gateway.document_services.xds.service import XdsDocuments

        return XdsDocuments(upstream, settings, settings.xds, observe, patients, clock)
    from gateway.document_services.rest import RestDocuments

    return RestDocuments(upstream, settings, observe, patients)


def documents_of_its_own(upstream: Upstream, observe: Callable[[float], None]) -> UpstreamClient:
    """The client of a service of documents (MHD) that knows its patients itself. Whoever asks for it closes it."""
    from gateway.document_services.mhd import MhdDocuments

    return MhdDocuments(upstream, observe)
