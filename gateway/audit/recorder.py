"""Who records, from the configuration: what AuditEvents say of this server."""

from gateway.audit.events.record import Recorder
from gateway.settings import GatewaySettings


def recorder_of(settings: GatewaySettings) -> Recorder:
    """This server, as its AuditEvents name it."""
    return Recorder(
        issuer=settings.authorization.issuer,
        site=settings.authorization.organisation,
        bases={upstream.name: upstream.identifier for upstream in settings.upstreams},
        disclosed_to=settings.audit.disclosed_to,
        organizations=settings.audit.organizations,
    )
