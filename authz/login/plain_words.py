"""What an app may do, in a person's words: scopes and authorization details, in each language of the pages."""

from collections.abc import Mapping
from urllib.parse import unquote

from authz.login.language import Language
from authz.protocol.authorization_details import Detail, DetailType
from authz.protocol.scopes import parse_scope

_LISTS = ("locations", "actions", "datatypes")
_VERBS = (("rs", "see"), ("c", "add"), ("u", "change"), ("d", "delete"))


def type_words(type_: str, language: Language) -> str:
    """What the resources of a type are to a person; '*' is all of them."""
    known = language.has(f"type.{type_}")
    return language.of("type", type_) if known else language.plain("kind.other", type=type_)


def plain_words(text: str, language: Language) -> str:
    """One sentence for the consent page: what a client that holds this scope can do."""
    scope = parse_scope(text)
    if scope is None:
        return language.of("scope", text)
    verbs = [language.of("scope", verb) for letters, verb in _VERBS if set(letters) & set(scope.letters)]
    what = type_words(scope.type, language)
    if scope.query:
        what = language.plain("scope.filtered", what=what, filters=_filters(scope.query, language))
    whose = language.of("whose", scope.context)
    said = language.plain("scope.sentence", verbs=language.listed(verbs), what=what, whose=whose)
    return said[:1].upper() + said[1:]


def part_words(text: str, language: Language) -> str:
    """What a scope with a filter is limited to, in a few words."""
    scope = parse_scope(text)
    return text if scope is None else _filters(scope.query, language)


def in_words(detail: Detail, types: Mapping[str, DetailType], language: Language) -> str:
    """One line for the consent page: what a detail lets an app do, and where."""
    kind = types.get(str(detail.get("type")))
    lists = {
        name: list(map(str, values))
        for name in _LISTS
        if isinstance(values := detail.get(name), list | tuple) and values
    }
    actions = [language.of("action", action) for action in lists.get("actions", ["use"])]
    what = [type_words(name, language) for name in lists.get("datatypes", [])]
    where = (
        language.plain("detail.at", places=language.listed(lists["locations"]))
        if "locations" in lists
        else ""
    )
    return language.plain(
        "detail.sentence",
        kind=str(detail.get("type")) if kind is None else kind.words,
        verbs=language.listed(list(dict.fromkeys(actions))),
        what=language.listed(what or [language.plain("detail.everything")]),
        where=where,
    )


def _filters(query: str, language: Language) -> str:
    values = (unquote(part.partition("=")[2]).rsplit("|", 1)[-1] for part in query.split("&"))
    return language.listed([language.of("filter", value) for value in values])
