"""The agents of an AuditEvent: client, server, the person with the token, the organisation, this server (IHE BALP)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.audit.events import codes
from gateway.audit.events.codes import Json, concept, dcm, term
from gateway.audit.events.record import Record, object_of, text_of, texts_of, without_empty

_ADDRESS, _URI = "2", "5"  # of network-type


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asked, as far as a record says. user is empty where software acts for itself."""

    client: str
    user: str
    issuer: str
    token: str
    grant: str
    peer: str
    organization: str
    organization_reference: str
    fhir_user: str
    roles: tuple[str, ...]
    purposes: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Whether anybody was authenticated."""
        return bool(self.client or self.user)


def asking(record: Record) -> Asking:
    """Who asked, in a record of a request."""
    caller = record.part("caller")
    claims = object_of(caller, "claims")
    client, subject = text_of(caller, "client"), text_of(caller, "subject")

    def claimed(*names: str) -> list[str]:
        """What the token says, else what the policies' definitions made of it."""
        return next((found for name in names for of in (caller, claims) if (found := texts_of(of, name))), [])

    reference = [each for each in claimed("org_reference") if each.startswith("Organization/")]
    return Asking(
        client=client,
        user="" if subject == client else subject,
        issuer=text_of(caller, "issuer"),
        token=text_of(caller, "token"),
        grant=text_of(caller, "grant"),
        peer=record.text("peer"),
        organization=next(iter(claimed("organization", "org")), ""),
        organization_reference=next(iter(reference), ""),
        fhir_user=next(iter(claimed("fhirUser", "user")), ""),
        roles=tuple(claimed("roles", "role")),
        purposes=tuple(record.texts("purpose") or claimed("purpose_of_use", "purpose")),
    )


def network(address: str, kind: str = _ADDRESS) -> Json:
    """The network of an agent; empty without an address."""
    return {"network": {"address": address, "type": kind}} if address else {}


def client_who(client: str) -> Json:
    """A client, by its client_id; empty where it is not known."""
    if not client:
        return {}
    return {"identifier": {"system": codes.CLIENT_ID, "value": client}}


def person_who(issuer: str, subject: str) -> Json:
    """A person, by the subject that an issuer gave."""
    identifier = {"system": issuer, "value": subject} if issuer else {"value": subject}
    return {"identifier": identifier}


def server_who(url: str) -> Json:
    """A server, by its public URL."""
    return {"identifier": {"system": codes.URI, "value": url}}


def client(asked: Asking, type: Json) -> Json:
    """The app, with the address of its connection."""
    who = client_who(asked.client)
    return without_empty({"type": type, "who": who, "requestor": False, **network(asked.peer)})


def server(url: str, type: Json) -> Json:
    """The FHIR server, as it is known to the caller."""
    return {"type": type, "who": server_who(url), "requestor": False, **network(url, _URI)}


def person(asked: Asking, *roles: Json) -> Json:
    """The person, with the id of the token and what the token says of roles and purpose; the name is the subject.

    One agent for the profiles of the interaction and of the token: each asks for a Coding of its own.
    """
    token = {"policy": [codes.JTI + asked.token]} if asked.token else {}
    types = [*roles, *([codes.user_agent("UserOauthAgent")] if asked.token else [])]
    return without_empty(
        {
            "type": concept(*types),
            "role": [{"text": role} for role in asked.roles],
            "who": person_who(asked.issuer, asked.user),
            "name": asked.user,
            "requestor": True,
            **token,
            "purposeOfUse": codes.purposes(asked.purposes),
        }
    )


def token_agents(asked: Asking, *, has_application: bool) -> list[Json]:
    """What the profiles of the token ask for beside the person: the application, and who acts where nobody else does."""
    found = []
    if asked.client and not has_application:
        found.append({"type": concept(dcm("110150")), "who": client_who(asked.client), "requestor": False})
    if asked.token and not asked.user:
        found.append(
            without_empty(
                {
                    "type": concept(codes.user_agent("UserOauthAgent")),
                    "role": [{"text": role} for role in asked.roles],
                    "who": client_who(asked.client),
                    "requestor": True,
                    "policy": [codes.JTI + asked.token],
                    "purposeOfUse": codes.purposes(asked.purposes),
                }
            )
        )
    return found


def organization(asked: Asking, base: str) -> list[Json]:
    """The organisation of who asked; none where the token names none."""
    if asked.organization_reference and base:
        who: Json = {"reference": f"{base}/{asked.organization_reference}", "type": "Organization"}
    elif asked.organization:
        who = {
            "type": "Organization",
            "identifier": {"system": codes.ORGANIZATION, "value": asked.organization},
        }
    else:
        return []
    return [{"type": concept(term("v3-RoleClass", "PROV")), "who": who, "requestor": False}]


def authorizer(record: Record) -> Json:
    """This server, which decided."""
    kind = concept(term("extra-security-role-type", "authserver", "authorization server"))
    return {"type": kind, "who": server_who(record.recorder.issuer), "requestor": False}


def source(record: Record, kind: str) -> Json:
    """Who observed the event: this server. kind is of security-source-type: 4 application server, 6 security server."""
    display = {"4": "Application Server", "6": "Security Server"}[kind]
    return without_empty(
        {
            "site": record.recorder.site,
            "observer": server_who(record.recorder.issuer),
            "type": [term("security-source-type", kind, display)],
        }
    )


def named(members: Mapping[str, Any], record: Record) -> Asking:
    """Who asked, in a record of the authorization server: client_id, subject and peer stand in it themselves."""
    client_id, subject = text_of(members, "client_id"), text_of(members, "subject")
    return Asking(
        client=client_id,
        user="" if subject == client_id else subject,
        issuer=record.recorder.issuer if subject else "",
        token=text_of(members, "token_id"),
        grant=text_of(members, "grant_id"),
        peer=text_of(members, "peer"),
        organization=text_of(members, "organization"),
        organization_reference="",
        fhir_user="",
        roles=tuple(texts_of(members, "roles")),
        purposes=tuple(texts_of(members, "purpose_of_use")),
    )
