"""The profile of a store: a file of this package by its name, or a file of the operator's own."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from gateway.config.schema import Section
from gateway.fhir.search import OPENABLE
from gateway.settings import SelfLink, UpstreamProfile
from gateway.yaml_source import Mapping, Problem, YamlError, parse

PROFILES = ("generic", "hapi", "azure", "google", "aidbox", "blaze", "medplum")
_KEYS = (
    "page_parameters", "page_links", "never_parameters", "opened_parameters", "never_headers", "strict_handling",
    "self_link", "self_link_of_forms", "if_match", "search_index", "document_location", "transactions",
)  # fmt: skip
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PLACE = re.compile(r"asked|base|__[a-z][a-z0-9-]{0,31}")
_MAX_FILE = 64 * 1024


def read_profile(section: Section) -> UpstreamProfile:
    """The profile that an upstream's 'profile' names, generic without one; mistakes go to the section's problems."""
    if not section.has("profile"):
        return UpstreamProfile()
    if isinstance(section.node.node("profile"), Mapping):
        path = section.file("profile")
        return UpstreamProfile() if path is None or not path.is_file() else _own(path, section)
    return shipped(section.word("profile", PROFILES, "generic"))


@cache
def shipped(name: str) -> UpstreamProfile:
    """A profile of this package. Raises YamlError when its file is wrong, which a test rules out."""
    problems: list[Problem] = []
    text = (files("gateway.profiles") / f"{name}.yaml").read_text(encoding="utf-8")
    found = profile_of(text, f"{name}.yaml", name, problems)
    if problems:
        raise YamlError(problems)
    return found


def profile_of(text: str, file: str, name: str, problems: list[Problem]) -> UpstreamProfile:
    """The profile that a file says, every key in it; mistakes, with their places, go to problems."""
    try:
        root = parse(text, file)
    except YamlError as error:
        problems.extend(error.problems)
        return UpstreamProfile()
    if not isinstance(root, Mapping):
        problems.append(root.place.problem(f"a profile is {root.kind}, expected a mapping"))
        return UpstreamProfile()
    section = Section(root, "", problems, Path(), {})
    section.known(*_KEYS)
    for key in _KEYS:
        if not section.has(key):
            section.report(root.place, f"{key} is missing: a profile says all of {', '.join(_KEYS)}")
    return UpstreamProfile(
        opened_parameters=_opened(section),
        name=name,
        page_parameters=_names(section, "page_parameters", _PARAMETER, "names of parameters"),
        page_links=_names(section, "page_links", _PLACE, "asked, base or a segment such as __page"),
        never_parameters=_names(section, "never_parameters", _PARAMETER, "names of parameters"),
        never_headers=_names(section, "never_headers", _HEADER, "names of headers in lower case"),
        strict_handling=section.word("strict_handling", ("sent", "not-sent"), "sent") == "sent",
        self_link=SelfLink(section.word("self_link", ("checked", "unreliable"), "checked")),
        self_link_of_forms=SelfLink(section.word("self_link_of_forms", ("checked", "silent"), "checked")),
        if_match=section.word("if_match", ("supported", "unsupported"), "supported") == "supported",
        document_location=section.word("document_location", ("supported", "unsupported"), "supported")
        == "supported",
        index_is_immediate=section.word("search_index", ("immediate", "lagging"), "lagging") == "immediate",
        transactions=section.word("transactions", ("supported", "unsupported"), "supported") == "supported",
    )


def _names(section: Section, key: str, grammar: re.Pattern[str], expected: str) -> frozenset[str]:
    found = section.texts(key) if section.has(key) else ()
    for text in found:
        if not grammar.fullmatch(text):
            section.report(section.place(key), f"{key} names '{text}', expected {expected}")
    return frozenset(found)


def _opened(section: Section) -> frozenset[str]:
    found = frozenset(section.texts("opened_parameters")) if section.has("opened_parameters") else frozenset()
    never = frozenset(section.texts("never_parameters")) if section.has("never_parameters") else frozenset()
    for text in sorted(found - OPENABLE):
        expected = f"expected some of {', '.join(sorted(OPENABLE))}"
        section.report(section.place("opened_parameters"), f"opened_parameters names '{text}', {expected}")
    for text in sorted(found & never):
        section.report(
            section.place("opened_parameters"), f"'{text}' is in never_parameters as well: say one of the two"
        )
    return found


def _own(path: Path, section: Section) -> UpstreamProfile:
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_FILE:
            raise ValueError(f"it is longer than {_MAX_FILE} bytes")
        text = raw.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        section.problems.append(Problem(str(path), 1, 1, f"cannot be read: {reason}"))
        return UpstreamProfile()
    return profile_of(text, str(path), path.stem, section.problems)
