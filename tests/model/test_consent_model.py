"""Consents against the brute-force model, and the laws that hold whatever anybody agreed to.

Adding a denial never opens, withdrawing what permits leaves no access, the order of consents has no meaning, and what is
said of no resource holds for every one of them.
"""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from gateway.consents.asking import finished
from gateway.consents.consent import SCOPES, ConsentAnswer, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import PatientConsents, answer
from gateway.consents.resource_facts import facts_of
from gateway.fhir.labels import ORDER
from gateway.policy.decision import Environment
from gateway.policy.engine import Engine
from tests.model.consent_model import YEAR_NOW, Asked, Draw, Json, says
from tests.model.seeds import over_seeds
from tests.support.policies import BASES, ask, caller, load, policy, shows

NOW = int(datetime(YEAR_NOW, 6, 1, tzinfo=UTC).timestamp())
PRIVACY = (SCOPES, "patient-privacy")
READING = ConsentReading(unlabelled=ORDER.index("N"))
OPT_OUT = replace(READING, opt_out=frozenset({PRIVACY}))
WORLDS = over_seeds(500)


def question(asked: Asked) -> ConsentQuestion:
    facts = facts_of(asked.resource, frozenset())
    actors = None if asked.actors is None else frozenset(asked.actors)
    return ConsentQuestion(PRIVACY, actors, frozenset(asked.purposes), facts.type, facts)


def said(consents: list[Json], asked: Asked, reading: ConsentReading = READING) -> ConsentAnswer:
    return answer(consents, question(asked), NOW, reading)


def test_what_consents_say_is_what_the_model_says() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1500):
        draw = Draw(seed)
        consents = draw.consents()
        for _ in range(4):
            asked = draw.asked()
            expected = says(consents, asked)
            found = said(consents, asked)
            assert found.said == expected, (seed, asked, consents)
            assert not found.depends
            assert bool(found.bases) is (expected != "none")
            assert said(consents, asked, OPT_OUT).said == says(consents, asked, opt_out=True), (
                seed,
                asked,
                consents,
            )
            seen[expected] += 1
    assert min(seen.values()) > 400, seen  # each answer is met often enough to mean something


class Whole(PatientConsents):
    """Every provision of every consent is asked for each resource, in all of its elements."""

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        own = [each for each in self.given if question.scope in each.scopes]
        told = [(each, each.spoken(question, now, self._reading)) for each in own]
        return finished(self._combined(question, now, told))


@WORLDS
def test_what_is_found_out_once_for_all_resources_is_what_each_of_them_is_told(seed: int) -> None:
    draw = Draw(seed)
    consents = draw.consents()
    for reading in (READING, OPT_OUT):
        kept, whole = PatientConsents(consents, reading), Whole(consents, reading)
        for _ in range(3):
            asked = draw.asked()
            for resource in [None, *(draw.resource() for _ in range(4)), None]:
                own = question(asked if resource is None else replace(asked, resource=resource))
                own = own if resource is not None else replace(own, resource=None)
                for partial_ in (False, True):
                    put = replace(own, is_partial=partial_)
                    for now in (NOW, NOW + 400 * 86400):
                        assert kept.answer(put, now) == whole.answer(put, now), (seed, put)


@WORLDS
def test_the_order_of_consents_has_no_meaning(seed: int) -> None:
    draw = Draw(seed)
    consents, asked = draw.consents(), draw.asked()
    shuffled = random.Random(seed).sample(consents, len(consents))
    assert said(shuffled, asked) == said(consents, asked)


@WORLDS
def test_adding_a_denial_never_opens(seed: int) -> None:
    """Neither as a consent of its own, whoever gives it and when, nor as an exception without exceptions."""
    draw = Draw(seed)
    consents, asked = draw.consents(), draw.asked()
    denial = draw.consent("denial")
    denial["provision"] = draw.provision(9, "deny")
    for reading in (READING, OPT_OUT):
        if said([*consents, denial], asked, reading).said is Said.PERMIT:
            assert said(consents, asked, reading).said is Said.PERMIT, (consents, denial, asked)
    for index, one in enumerate(consents):
        within = one["provision"].get("provision", [])
        closed = one | {"provision": one["provision"] | {"provision": [*within, draw.provision(9, "deny")]}}
        others = [*consents[:index], closed, *consents[index + 1 :]]
        if said(others, asked).said is Said.PERMIT:
            assert said(consents, asked).said is Said.PERMIT, (consents, closed, asked)


@WORLDS
def test_a_withdrawal_of_what_permits_leaves_no_access_by_it(seed: int) -> None:
    draw = Draw(seed)
    consents, asked = draw.consents(), draw.asked()
    for reading in (READING, OPT_OUT):
        left, found = list(consents), said(consents, asked, reading)
        while found.said is Said.PERMIT and found.ids:
            gone = found.ids
            left = [one | {"status": "inactive"} if one["id"] in gone else one for one in left]
            found = said(left, asked, reading)
            assert not found.ids & gone
        if any(one["status"] == "inactive" and one["provision"]["type"] == "permit" for one in left):
            privacy = [one for one in left if one["scope"]["coding"][0]["code"] == "patient-privacy"]
            if any(one["status"] == "inactive" and one["provision"]["type"] == "permit" for one in privacy):
                assert found.said is not Said.PERMIT
    assert said(
        [one for one in consents if one["id"] not in said(consents, asked).ids], asked
    ).ids.isdisjoint(said(consents, asked).ids)
    assert said([], asked).said is Said.NONE


@WORLDS
def test_a_withdrawn_permit_never_opens_what_was_said_before_it(seed: int) -> None:
    draw = Draw(seed)
    consents, asked = draw.consents(), draw.asked()
    before = says(consents, asked)
    for index, one in enumerate(consents):
        own = said([one | {"status": "active"}], asked).said
        if one["status"] != "active" or own is Said.DENY:
            continue  # what denied is withdrawn: that may open
        withdrawn = [*consents[:index], one | {"status": "inactive"}, *consents[index + 1 :]]
        if said(withdrawn, asked).said is Said.PERMIT:
            assert before == "permit", (consents, one, asked)


@WORLDS
def test_what_is_said_of_no_resource_holds_for_every_resource(seed: int) -> None:
    draw = Draw(seed)
    consents, asked = draw.consents(), draw.asked()
    for reading in (READING, OPT_OUT):
        of_none = answer(consents, replace(question(asked), resource=None), NOW, reading)
        for _ in range(6):
            resource = draw.resource()
            if resource["resourceType"] != asked.resource["resourceType"]:
                continue
            of_one = said(consents, replace(asked, resource=resource), reading).said
            if not of_none.depends:
                assert of_one is of_none.said
            elif of_none.said is not Said.PERMIT:
                assert of_one is not Said.PERMIT


HOSPITAL = "definitions: h\nversion: 1\nconsent: {scope: patient-privacy, decision: permit, for: %s, because: Law.}\n"


def test_the_engine_judges_each_resource_as_the_model_says() -> None:
    """As the condition of a permit, of a deny and of the whole hospital; which resource is asked for is another matter."""
    names = "['{token.user}', '{token.org}']"
    every = "[Condition, Observation, Patient]"
    condition = f"{{scope: patient-privacy, decision: %s, for: {names}}}"
    open_ = f"rule: open, effect: permit, may: [search], resources: {every}, shared: true"
    permit = f"rule: p, effect: permit, may: [search], resources: {every}, where: {{consent: {condition % 'permit'}}}"
    deny = (
        f"rule: d, effect: deny, may: [search], resources: {every}, where: {{consent: {condition % 'deny'}}}"
    )
    engines = {
        ("permit",): Engine(load(policy(permit)), bases=BASES),
        ("permit", "none"): Engine(load(policy(open_, deny)), bases=BASES),
        ("permit", "hospital"): Engine(load(HOSPITAL % names, policy(open_)), bases=BASES),
    }
    seen: Counter[bool] = Counter()
    for seed in range(400):
        draw = Draw(seed)
        consents, asked = draw.consents(), draw.asked()
        user = f"Practitioner/{draw.pick('pq')}"
        who = caller(fhirUser=user, organization="Organization/h", purpose_of_use=list(asked.purposes))
        environment = Environment(NOW, "192.0.2.1")
        environment.known.consents["A"] = partial(PatientConsents(consents, READING).answer, now=NOW)
        type_ = asked.resource["resourceType"]
        resources = [each for _ in range(6) if (each := draw.resource())["resourceType"] == type_]
        for words, engine in engines.items():
            decision = engine.decide(ask(f"GET /{type_}"), who, environment)
            for each in resources:
                own = each | ({"id": "A"} if type_ == "Patient" else {})
                of_model = says(consents, replace(asked, actors=(user, "Organization/h"), resource=own))
                assert shows(decision, own) is (of_model in words), (seed, words, own, consents)
                seen[of_model in words] += 1
    assert min(seen.values()) > 300, seen
