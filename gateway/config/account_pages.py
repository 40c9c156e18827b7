"""The section account_pages of gateway.yaml: the FHIR base that the pages under /account are about, and consents there."""

from collections.abc import Sequence

from authz.account.own_records import Actor, ActorKind
from authz.login.represented import EVERYTHING
from gateway.account_settings import AccountPages, RelatedPersons
from gateway.config.schema import Section
from gateway.settings import Upstream
from gateway.yaml_source import did_you_mean


def read_account_pages(top: Section, public: str, upstreams: Sequence[Upstream]) -> AccountPages | None:
    """The settings. Without the section the only FHIR base, without consents; None where there is not one alone."""
    bases = {each.name: each for each in upstreams if each.kind.startswith("fhir")}
    section = top.section("account_pages")
    if section is None:
        return AccountPages(next(iter(bases.values())).identifier) if len(bases) == 1 else None
    section.known("base", "consents", "related_persons")
    name = section.text(
        "base", next(iter(bases)) if len(bases) == 1 else None, expected="the name of a FHIR base"
    )
    base = bases.get(name)
    if name and base is None:
        said = f"account_pages.base: no upstream of kind fhir-r4 has the name '{name}'.{did_you_mean(name, bases)}"
        section.report(section.place("base"), said)
    identifier = "" if base is None else base.identifier
    related = _related_persons(section)
    inner = section.section("consents")
    if inner is None:
        return AccountPages(identifier, related_persons=related)
    inner.known("custodian", "policy", "organizations")
    if base is not None and (base.consents is None or not base.consents.kept_here):
        # Elsewhere nobody would read them: a person would be told that something holds which does not.
        said = f"account_pages.consents: consents of '{name}' are not kept here, expected consents.kept 'here' of it"
        section.report(section.place("consents"), said)
    organizations = []
    for each in inner.sections("organizations"):
        each.known("id", "name")
        organizations.append(Actor(ActorKind.ORGANIZATION, each.text("id"), each.text("name")))
    return AccountPages(
        identifier,
        consents=True,
        custodian=inner.text("custodian", expected="a reference such as Organization/1"),
        policy=inner.url("policy", ("https",)) if inner.has("policy") else f"{public}/account/consents",
        organizations=tuple(organizations),
        related_persons=related,
    )


def _related_persons(section: Section) -> RelatedPersons | None:
    inner = section.section("related_persons")
    if inner is None:
        return None
    inner.known("system", "until_age", "may")
    may = inner.words("may", sorted(EVERYTHING)) if inner.has("may") else EVERYTHING
    until_age = inner.integer("until_age", 18, low=1, high=120)
    return RelatedPersons(
        inner.text("system", expected="the system of an identifier"), until_age, frozenset(may)
    )
