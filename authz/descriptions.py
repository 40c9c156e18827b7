"""What an administrator is told, over HTTP and on the command line alike: of clients, their history, tokens and grants.

No secret is in it, not even a digest of one, and no claims of a person.
"""

from authz.protocol.encoding import base64url, base64url_decode
from authz.protocol.tokens import Grant
from authz.registry import ListedClient
from authz.storage.registrations import InitialAccessToken, RegistrationChange


def of_client(listed: ListedClient) -> dict[str, object]:
    """A client in a list. waiting says what is to be decided: 'registration', 'update' or nothing."""
    client, registration = listed.client, listed.registration
    waiting = None
    if listed.status == "pending":
        waiting = "registration"
    elif registration is not None and registration.proposed is not None:
        waiting = "update"
    found: dict[str, object] = {
        "client_id": listed.client_id,
        "name": listed.name,
        "status": str(listed.status),
        "version": listed.version,
        "configured": listed.configured,
        "waiting": waiting,
    }
    if client is not None:
        found |= {
            "profile": str(client.profile),
            "authentication": str(client.authentication_method),
            "binding": str(client.binding),
            "grants": sorted(map(str, client.grant_types)),
            "scope": " ".join(client.scope),
        }
    if listed.problem:
        found["problem"] = listed.problem
    return found


def of_client_in_full(listed: ListedClient) -> dict[str, object]:
    """A client with its metadata, the proposed update among it, and what its registration is held to."""
    found, registration = of_client(listed), listed.registration
    if listed.client is not None:
        found |= {"redirect_uris": list(listed.client.redirect_uris), "jwks_uri": listed.client.jwks_uri}
    if registration is not None:
        ceiling = registration.scope_ceiling
        found |= {
            "metadata": dict(registration.metadata),
            "proposed": None if registration.proposed is None else dict(registration.proposed),
            "scope_ceiling": None if ceiling is None else " ".join(ceiling),
            "software_statement": registration.statement,
            "proposed_software_statement": registration.proposed_statement,
            "created_at": registration.created_at,
            "changed_at": registration.changed_at,
            "expires_at": registration.expires_at,
        }
    return found


def of_change(change: RegistrationChange) -> dict[str, object]:
    """A row of a client's history."""
    return {
        "at": change.at,
        "what": change.what,
        "who": change.who,
        "why": change.why,
        "version": change.version,
    }


def of_token(record: InitialAccessToken) -> dict[str, object]:
    """An initial access token, without the token. The id is how it is named when it is withdrawn.

    In hexadecimal: base64url may begin with '-', which no command line takes for a name.
    """
    ceiling = record.scope_ceiling
    return {
        "id": base64url_decode(record.id).hex(),
        "uses_left": record.uses_left,
        "scope": None if ceiling is None else " ".join(ceiling),
        "who": record.made_by,
        "why": record.why,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
    }


def token_id(text: str) -> str:
    """The id of an initial access token in the store, from the one that of_token() tells; the text if it is none."""
    try:
        return base64url(bytes.fromhex(text))
    except ValueError:
        return text


def of_grant(grant: Grant) -> dict[str, object]:
    """A grant."""
    return {
        "grant_id": grant.grant_id,
        "client_id": grant.client_id,
        "subject": grant.subject,
        "scope": " ".join(grant.scope),
        "resources": list(grant.audience),
        "patient": grant.context.get("patient"),
        "created_at": grant.created_at,
    }
