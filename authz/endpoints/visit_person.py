"""The person of a visit, as a finder is asked for: with the claims and the kind of key that the app's token would have."""

from authz.endpoints.pickers import Person, Pickers
from authz.endpoints.visits import Visit
from authz.login.finding import key_of_session
from authz.protocol.clients import BindingKind
from authz.protocol.openid import acr_of
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Binding, Grant
from authz.settings import Account


def person_at(pickers: Pickers, visit: Visit, account: Account, request: HttpRequest) -> Person | None:
    """The person at the pages; None where none of the resources asked for has a finder."""
    session = visit.browser.session
    grant = Grant(
        grant_id="picker",
        client_id=visit.client.client_id,
        subject=account.subject,
        scope=(),
        audience=pickers.audience(visit.interaction.parameters),
        claims=account.claims,
        authenticated_at=session.authenticated_at,
        acr=acr_of(session.amr),
        amr=session.amr,
    )
    return pickers.for_grant(grant, visit.client, _binding_to_come(visit), request, visit.language)


def _binding_to_come(visit: Visit) -> Binding:
    """The kind of key that the app's token will be bound to; which one only its token request says."""
    kind, jkt = visit.client.binding, visit.interaction.dpop_jkt
    if jkt is not None and kind is not BindingKind.MTLS:
        return Binding(BindingKind.DPOP, jkt)
    if kind is BindingKind.NONE:
        return Binding(kind, "")
    return Binding(kind, key_of_session(visit.browser.session.id))
