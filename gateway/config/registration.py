"""Whether and how applications register themselves: the section `registration` of gateway.yaml."""

from collections.abc import Mapping

from authz.protocol.jwk import import_jwks
from authz.settings import RegistrationSettings
from gateway.config.registrations import read_jwks_file
from gateway.config.schema import Section


def read_registration(top: Section) -> RegistrationSettings:
    """The section; without it nobody can register."""
    section = top.section("registration")
    if section is None:
        return RegistrationSettings()
    section.known("enabled", "approval", "statement_issuers")
    return RegistrationSettings(
        enabled=section.flag("enabled", False),
        automatic=section.word("approval", ("manual", "automatic"), "manual") == "automatic",
        statement_issuers=_issuers(section),
    )


def _issuers(section: Section) -> dict[str, tuple[Mapping[str, object], ...]]:
    """Issuer of software statements → its keys. The issuer is compared with iss character by character."""
    inner = section.section("statement_issuers")
    if inner is None:
        return {}
    found: dict[str, tuple[Mapping[str, object], ...]] = {}
    for entry in inner.node:
        path = inner.file(entry.key)
        if path is not None and path.is_file():
            found[entry.key] = read_jwks_file(inner, entry.key, path)
            if found[entry.key] and not import_jwks(found[entry.key]):
                inner.report(entry.place, f"'{path}' holds no key for checking signatures")
    return found
