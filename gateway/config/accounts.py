"""The people of gateway.yaml: accounts, and the claims that tokens carry of people and clients."""

import re

from authz.settings import Account
from gateway.config.representations import read_representations
from gateway.config.schema import Section
from gateway.yaml_source import Place

_FHIR_USER = re.compile(
    r"(https://[^\s?#]+/)?(Patient|Practitioner|PractitionerRole|RelatedPerson|Person)/[A-Za-z0-9\-.]{1,64}"
)
_RESERVED = frozenset(
    {
        "iss",
        "sub",
        "aud",
        "client_id",
        "iat",
        "exp",
        "nbf",
        "jti",
        "scope",
        "cnf",
        "grant_id",
        "auth_time",
        "acr",
        "amr",
        "authorization_details",
        "unbound",
        "acting_as",
    }
)


def read_accounts(top: Section) -> tuple[Account, ...]:
    """Every account of the file; mistakes go to its problems."""
    found: list[Account] = []
    names: dict[str, Place] = {}
    for section in top.sections("users"):
        section.known(
            "username",
            "subject",
            "name",
            "password",
            "patient",
            "patients",
            "represents",
            "related_person",
            "claims",
        )
        username = section.text("username")
        if username in names:
            section.report(
                section.place("username"),
                f"the username '{username}' is used twice (first in line {names[username].line})",
            )
        names.setdefault(username, section.place("username"))
        subject = section.text("subject")
        if len(subject) > 255 or not subject.isascii():  # OpenID Connect Core 2: sub
            section.report(section.place("subject"), "subject must have at most 255 characters, all ASCII")
        hashed = section.secret("password") or ""
        if hashed and not hashed.startswith("$argon2id$"):
            section.report(
                section.place("password"), "password must be an argon2id hash, from `securus user hash`"
            )
        found.append(
            Account(
                username=username,
                subject=subject,
                password_hash=hashed,
                name=section.text("name"),
                claims=_person_claims(section),
                patient=section.optional_text("patient"),
                patients=tuple((p.text("id"), p.text("label")) for p in section.sections("patients")),
                represents=read_representations(section),
                related_person=section.optional_text("related_person"),
            )
        )
    subjects = [account.subject for account in found]
    if len(set(subjects)) != len(subjects):
        top.report(top.place("users"), "two users have the same subject")
    return tuple(found)


def _person_claims(section: Section) -> dict[str, object]:
    """The claims of an account. fhirUser is one of the five types that SMART App Launch 2.2 knows for people."""
    claims = read_claims(section)
    said = claims.get("fhirUser")
    if said is not None and not (isinstance(said, str) and _FHIR_USER.fullmatch(said)):
        wanted = "a Patient, Practitioner, PractitionerRole, RelatedPerson or Person, such as Practitioner/1"
        section.report(section.place("claims"), f"claims.fhirUser must be {wanted}")
    return claims


def read_claims(section: Section) -> dict[str, object]:
    """The claims of a person or client, none of which is the server's own."""
    inner = section.section("claims")
    if inner is None:
        return {}
    for entry in inner.node:
        if entry.key in _RESERVED:
            inner.report(entry.place, f"the claim '{entry.key}' is the server's own")
    return inner.node.plain()
