"""What a permit hides and cannot hide well: elements that FHIR requires, and elements that its search must ask for."""

from collections.abc import Iterator

from gateway.fhir.definitions import mandatory_elements
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.search import make_term
from gateway.policy.rules import Effect, Rule
from gateway.policy.sight import is_hidden, touched, view_of
from gateway.policy.view import View
from gateway.yaml_source import Problem


def warnings(rule: Rule) -> Iterator[Problem]:
    """What is to be said of the view of a permit, and of the elements that a deny takes away, at the rule's place."""
    name = rule.id.rpartition("/")[2]
    for type_ in sorted(rule.resources or ()):
        required = [each for each in _hidden(rule, type_) if each in mandatory_elements(type_)]
        if required:
            paths = ", ".join(f"{type_}.{each}" for each in required)
            said = f"rule '{name}' hides {paths}, which FHIR requires: readers find it marked as masked"
            yield rule.place.problem(said, warning=True)
        for code in _needed_in_vain(rule, type_):
            said = (
                f"rule '{name}' asks for searches by '{code}' and hides what it looks at: none of them passes"
            )
            yield rule.place.problem(said, warning=True)


def _hidden(rule: Rule, type_: str) -> list[str]:
    """The elements of the first level that are taken away whole."""
    named = [*(rule.fields or ()), *(rule.returned.hide if rule.returned is not None else ())]
    paths = [path.removeprefix(f"{type_}.") for path in named]
    hidden = {path for path in paths if "." not in path}
    if rule.returned is not None and rule.returned.only is not None:
        only = {path.split(".")[1] for path in rule.returned.only if path.startswith(f"{type_}.")}
        hidden |= mandatory_elements(type_) - only if only else set()
    return sorted(hidden)


def _needed_in_vain(rule: Rule, type_: str) -> list[str]:
    """What the permit hides of what a search must ask for, where every way to ask for it looks at something hidden."""
    if rule.effect is not Effect.PERMIT or rule.returned is None or Interaction.SEARCH not in rule.may:
        return []
    view = view_of(rule.returned, type_)
    found: list[str] = []
    for together in rule.query.needs_one_of:
        closed = [code for code in sorted(together) if _looks_at_hidden(view, type_, code)]
        if not closed:
            return []
        found.extend(closed)
    return list(dict.fromkeys(found))


def _looks_at_hidden(view: View, type_: str, code: str) -> bool:
    asked = FhirRequest("GET", Interaction.SEARCH, type_, terms=(make_term(code, ["x"]),))
    return is_hidden(view, touched(asked))
