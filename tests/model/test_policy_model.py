"""The engine against the naive model, and the laws of the language (properties P4, P5 and P7)."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest
from gateway.policy import by_list, language
from gateway.policy.decision import Decision, Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from tests.model import policy_model as model
from tests.model.seeds import over_seeds
from tests.model.worlds import DEFINITIONS, World, known_of
from tests.support.policies import BASES, ask, caller

WORLDS = over_seeds(150)
MASKED = {
    "extension": [
        {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
    ]
}
Files = list[dict[str, Any]]


def texts(files: Files) -> dict[str, str]:
    """The files as text; JSON is YAML."""
    return {f"{number}.yaml": json.dumps(body) for number, body in enumerate([DEFINITIONS, *files])}


def engine(files: Files) -> Engine:
    """The engine of these files."""
    return Engine(language.load(texts(files)), bases=BASES)


def questions(world: World) -> Iterator[tuple[model.Asker, list[dict[str, Any]]]]:
    """Twenty questions, each with resources that it is about."""
    for _ in range(20):
        asker = world.asker()
        found = [world.resource(asker) for _ in range(4)]
        yield asker, found


def words_of(asker: model.Asker) -> tuple[FhirRequest, Caller]:
    """The question as the engine takes it."""
    scope = " ".join(f"{asker.context}/{t}.{letters}{'?' + q if q else ''}" for t, letters, q in asker.scopes)
    path = {
        "read": f"GET /{asker.type}/{asker.id}",
        "vread": f"GET /{asker.type}/{asker.id}/_history/1",
        "search": f"GET /{asker.type}?{'&'.join(f'{word}={model.OPENED[word]}' for word in asker.words)}",
        "create": f"POST /{asker.type}",
    }[asker.interaction]
    who_asks = caller(scope=scope, client=asker.client, bound=asker.bound, **asker.claims)
    return ask(path), who_asks


def answer_of(judge: Engine, asker: model.Asker) -> Decision:
    """The engine's answer to the question."""
    asked, who_asks = words_of(asker)
    answer = judge.decide(asked, who_asks, Environment(asker.now, asker.peer, known=known_of(asker)))
    return by_list.read(answer) if isinstance(answer, Permit) else answer  # the List is read, and shown


def judged(answer: Decision, resource: dict[str, Any]) -> bool:
    """Whether the judge shows the resource."""
    return isinstance(answer, Permit) and answer.judge is not None and answer.judge(resource).shown


def seen_of(answer: Decision, resource: dict[str, Any]) -> set[str]:
    """The members of the resource that go out with what they say; none of one that is not shown."""
    return {name for name, value in _sent(answer, resource).items() if value != MASKED}


def marked_of(answer: Decision, resource: dict[str, Any]) -> set[str]:
    """The members that go out to say no more than that something is hidden."""
    return {name for name, value in _sent(answer, resource).items() if value == MASKED}


def _sent(answer: Decision, resource: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(answer, Permit) or answer.judge is None:
        return {}
    verdict = answer.judge(resource)
    seen = resource if verdict.seen is None else verdict.seen
    return {name: value for name, value in seen.items() if name != "meta"} if verdict.shown else {}


def reaches(answer: Decision, resource: dict[str, Any]) -> bool:
    """Whether the resource reaches the caller: the store finds it by our terms, the judge shows it."""
    return isinstance(answer, Permit) and model.finds(resource, answer.added) and judged(answer, resource)


def _of_its_subject(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource as if nobody but its subject had had a part in it."""
    return {name: value for name, value in resource.items() if name not in ("performer", "asserter")}


@WORLDS
def test_P7_the_engine_decides_as_the_naive_model(seed: int) -> None:
    world = World(seed)
    files = world.policies()
    judge = engine(files)
    for asker, found in questions(world):
        answer = answer_of(judge, asker)
        for whole in found:
            # A search for nobody's records finds nothing, also of those in which somebody else had a part.
            resource = _of_its_subject(whole) if isinstance(answer, Nothing) else whole
            shown = model.shows(files, asker, resource)
            assert judged(answer, resource) is shown
            if shown and asker.interaction != "create":
                seen = model.sees(files, asker, resource)
                assert seen_of(answer, resource) == seen
                assert marked_of(answer, resource) == model.marks(resource, seen)


@WORLDS
def test_P7_who_is_known_from_before_is_decided_about_as_somebody_new(seed: int) -> None:
    """What is kept of a caller is nothing that time, place, facts, consents or the resource asked for can change."""
    world = World(seed)
    files = world.policies()
    judge = engine(files)
    known_from_before = replace(world.asker(), interaction="read")
    _, who_asks = words_of(replace(known_from_before, id="A"))
    moments = [world.asker() for _ in range(8)]
    for moment in moments:
        asker = replace(
            known_from_before,
            id=moment.id or "A",
            now=moment.now,
            peer=moment.peer,
            facts=moment.facts,
            consents=moment.consents,
        )
        asked, _ = words_of(asker)
        here = Environment(asker.now, asker.peer, known=known_of(asker))
        answer, fresh = judge.decide(asked, who_asks, here), answer_of(engine(files), asker)
        assert _said(answer) == _said(fresh)
        found = [world.resource(asker) for _ in range(4)]
        assert [seen_of(answer, each) for each in found] == [seen_of(fresh, each) for each in found]


def _said(answer: Decision) -> tuple[object, ...]:
    """All that a decision says but its judges."""
    if not isinstance(answer, Permit):
        return type(answer), answer
    plain = replace(answer, judge=None, judge_change=None, included=None)
    return type(answer), plain


@pytest.mark.parametrize("effect", ["deny", "require"])
@WORLDS
def test_P4_adding_a_rule_that_closes_never_shows_more(seed: int, effect: str) -> None:
    world = World(seed)
    files = world.policies()
    before, after = engine(files), engine([*files, world.policy([world.rule(effect)])])
    for asker, found in questions(world):
        one, other = answer_of(before, asker), answer_of(after, asker)
        assert isinstance(other, Deny) or not isinstance(one, Deny)
        for resource in found:
            assert seen_of(other, resource) <= seen_of(one, resource)
            assert reaches(one, resource) or not reaches(other, resource)


@WORLDS
def test_P5_adding_a_permit_never_shows_less(seed: int) -> None:
    world = World(seed)
    files = world.policies()
    before, after = engine(files), engine([*files, world.policy([world.rule("permit")])])
    for asker, found in questions(world):
        one, other = answer_of(before, asker), answer_of(after, asker)
        for resource in found:
            assert seen_of(one, resource) <= seen_of(other, resource)
            assert reaches(other, resource) or not reaches(one, resource)


@WORLDS
def test_a_narrowed_search_loses_nothing_that_the_judge_would_show(seed: int) -> None:
    """Where nobody but the subject is named; who else had a part is found by reading, not by searching."""
    world = World(seed)
    files = world.policies()
    judge = engine(files)
    for asked, found in questions(world):
        asker = replace(asked, interaction="search", id=None)
        answer = answer_of(judge, asker)
        for resource in found:
            alone = _of_its_subject(resource)
            assert reaches(answer, alone) is model.shows(files, asker, alone)
            if judged(answer, resource) and not reaches(answer, resource):
                assert isinstance(answer, Permit)
                of_patients = tuple(
                    t for t in answer.added if t.startswith(("subject=Patient", "patient=Patient"))
                )
                assert not model.finds(resource, of_patients)


@WORLDS
def test_an_exact_narrowing_finds_nothing_that_the_judge_hides(seed: int) -> None:
    world = World(seed)
    judge = engine(world.policies())
    for asked, found in questions(world):
        answer = answer_of(judge, replace(asked, interaction="search", id=None))
        if isinstance(answer, Permit) and answer.exact:
            for resource in found:
                if resource["resourceType"] == asked.type:
                    assert judged(answer, resource) or not model.finds(resource, answer.added)


@WORLDS
def test_the_order_of_rules_and_files_has_no_meaning(seed: int) -> None:
    world = World(seed)
    files = world.policies()
    mixed = [{**body, "rules": world.random.sample(body["rules"], len(body["rules"]))} for body in files]
    world.random.shuffle(mixed)
    straight, shuffled = engine(files), engine(mixed)
    for asker, found in questions(world):
        one, other = answer_of(straight, asker), answer_of(shuffled, asker)
        match one, other:
            case Permit(), Permit():
                assert set(one.added) == set(other.added)
                assert (one.conceal, one.exact, one.audit) == (other.conceal, other.exact, other.audit)
            case Deny(), Deny():
                assert (one.reason, one.conceal) == (other.reason, other.conceal)
            case _:
                assert isinstance(one, Nothing)
                assert isinstance(other, Nothing)
        assert set(one.rules) == set(other.rules)
        for resource in found:
            assert seen_of(one, resource) == seen_of(other, resource)


def test_the_questions_reach_every_kind_of_answer() -> None:
    """The laws above would say nothing if everything were refused."""
    seen: Counter[str] = Counter()
    for seed in range(150):
        world = World(seed)
        judge = engine(world.policies())
        for asker, found in questions(world):
            answer = answer_of(judge, asker)
            shown = [judged(answer, resource) for resource in found]
            seen[type(answer).__name__] += 1
            seen["shown"] += any(shown)
            seen["cut"] += any(0 < len(seen_of(answer, resource)) < len(resource) for resource in found)
            if isinstance(answer, Permit):
                seen.update({"narrowed": bool(answer.added), "hidden": not all(shown), "exact": answer.exact})
    kinds = ("Permit", "Deny", "shown", "cut", "hidden", "narrowed", "exact")
    assert all(seen[kind] >= 50 for kind in kinds), seen
    assert seen["Nothing"] >= 1, seen
