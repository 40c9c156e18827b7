"""What is kept of a caller's reads, and reads that are compiled for a type, against what is decided anew each time."""

from collections import Counter
from dataclasses import replace
from typing import Any

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest
from gateway.policy.decision import Decision, Deny, Environment, Permit, Verdict
from gateway.policy.engine import Engine
from gateway.policy.known import Known
from tests.model.policy_model import Asker
from tests.model.seeds import over_seeds
from tests.model.test_policy_model import engine, words_of
from tests.model.worlds import TIMES, World, known_of
from tests.support.policies import ask

PEERS = ("10.1.2.3", "192.0.2.7", "198.51.100.1", "no address")
IDS = ("A", "B", "VIP", "x", "metadata")


def told(decision: Decision, resources: list[dict[str, Any]]) -> object:
    """All that a decision says, and its judge of these resources."""
    if not isinstance(decision, Permit):
        return decision
    verdicts = [None if decision.judge is None else decision.judge(each) for each in resources]
    by_search = decision.by_search
    return (
        decision.request, decision.added, decision.conceal, set(decision.rules), decision.exact, decision.audit,
        decision.obligations, decision.needs, None if by_search is None else by_search.proof, verdicts,
    )  # fmt: skip


def seen(asker: Asker, now: int, peer: str, known: Known | None = None) -> Environment:
    return Environment(now, peer, known=known_of(asker) if known is None else known)


def readings(world: World) -> list[tuple[Asker, FhirRequest, Caller, list[dict[str, Any]]]]:
    """Some questions about one resource."""
    found = []
    for _ in range(12):
        asker = replace(world.asker(), interaction=world.random.choice(["read", "read", "vread"]))
        id_ = asker.id or world.random.choice(IDS)
        asker = replace(asker, id=id_)
        asked, who = words_of(asker)
        resources = [world.resource(asker) for _ in range(4)]
        resources += [{**each, "id": id_} for each in resources]
        found.append((asker, asked, who, resources))
    return found


def test_layers_that_are_kept_say_what_fresh_ones_say_whenever_and_from_wherever() -> None:
    """One engine is asked over and over by the same callers, another is new for each question."""
    kept = Counter[bool]()

    @over_seeds(60)
    def law(seed: int) -> None:
        world = World(seed)
        files = world.policies()
        lasting = engine(files)
        for asker, asked, who, resources in readings(world):
            for now in world.random.sample(TIMES, 3):
                for peer in world.random.sample(PEERS, 2):
                    there = told(lasting.decide(asked, who, seen(asker, now, peer)), resources)
                    fresh = Engine(lasting.policies, bases=lasting.bases)
                    assert there == told(fresh.decide(asked, who, seen(asker, now, peer)), resources)
            layers = lasting._acquainted(who).layers.values()
            kept.update(each is not None for each in layers)

    law()
    assert min(kept[True], kept[False]) > 50, kept


def test_reads_of_a_type_that_are_compiled_are_decided_and_judged_as_each_by_itself() -> None:
    compiled = Counter[str]()

    @over_seeds(240)
    def law(seed: int) -> None:
        world = World(seed)
        files = world.policies()
        lasting = engine(files)
        for asker, _, who, resources in readings(world):
            # A token is used at other times and places than those at which its reads were compiled.
            reads = lasting.reads_of(asker.type, who, seen(asker, world.random.choice(TIMES), PEERS[0]))
            compiled["yes" if reads is not None else "no"] += 1
            if reads is None:
                continue
            for id_ in (*IDS, str(asker.id)):
                asked = ask(f"GET /{asker.type}/{id_}")
                known = known_of(asker)
                decision = Engine(lasting.policies, bases=lasting.bases).decide(
                    asked, who, seen(asker, world.random.choice(TIMES), world.random.choice(PEERS), known)
                )
                assert reads.opens(id_) is isinstance(decision, Permit), (asked, decision)
                if isinstance(decision, Deny):
                    compiled["closed"] += 1
                    continue
                assert isinstance(decision, Permit)
                assert decision.judge is not None
                assert decision.obligations.is_empty
                assert decision.by_search is None
                assert set(reads.rules) == set(decision.rules)
                for each in resources:
                    verdict = reads.judge(each) if each["id"] == id_ else None
                    own = decision.judge(each)
                    assert own.shown is (verdict is not None and verdict.shown)
                    if verdict is not None:
                        assert same(verdict, own)
                        compiled["shown" if own.shown else "not shown"] += 1
                assert not any((known.consulted, known.deciding, known.wanted(), known.judges_ask))

    law()
    assert min(compiled[each] for each in ("yes", "no", "closed", "shown", "not shown")) > 30, compiled


def same(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts say the same."""
    return replace(one, seen=None) == replace(other, seen=None) and one.seen == other.seen
