"""Whether and how applications register themselves: the section `registration` of gateway.yaml."""

from collections.abc import Mapping

from authz.protocol.clients import ProfileName
from authz.protocol.jwk import import_jwks
from authz.settings import RegistrationSettings
from gateway.config.client_keys import read_jwks_file
from gateway.config.schema import Section
from gateway.yaml_source import did_you_mean


def read_registration(top: Section, profiles: frozenset[ProfileName]) -> RegistrationSettings:
    """The section; without it nobody can register. profiles are those that are switched on."""
    section = top.section("registration")
    if section is None:
        return RegistrationSettings()
    section.known("enabled", "approval", "statement_issuers", "profiles", "require_dpop")
    return RegistrationSettings(
        enabled=section.flag("enabled", False),
        automatic=section.word("approval", ("manual", "automatic"), "manual") == "automatic",
        statement_issuers=_issuers(section),
        profiles=_profiles(section, profiles),
        require_dpop=section.flag("require_dpop", True),
    )


def _profiles(section: Section, on: frozenset[ProfileName]) -> frozenset[ProfileName]:
    """The profiles that an application may ask for by itself, each of them switched on."""
    if not section.has("profiles"):
        return RegistrationSettings().profiles
    found = set()
    for text in section.texts("profiles"):
        if text not in list(ProfileName):
            hint = did_you_mean(text, list(ProfileName))
            section.report(section.place("profiles"), f"there is no profile '{text}'.{hint}")
        elif ProfileName(text) not in on:
            section.report(
                section.place("profiles"),
                f"the profile '{text}' is not switched on in authorization.profiles",
            )
        else:
            found.add(ProfileName(text))
    return frozenset(found)


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
