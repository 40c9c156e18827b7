"""What is measured within one process, on one core: decisions by many rules, a filtered Bundle, a filtered export.

CPU time only, so that a busy machine does not count. Each row has a yardstick measured beside it in the same run.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy.decision import Permit
from gateway.policy.engine import Engine
from gateway.policy.index import RuleIndex
from gateway.policy.rules import Dimension, Effect, Rule, Where
from gateway.proxy.answers.ndjson_filter import NdjsonFilter
from gateway.proxy.answers.response_filter import BundleFilter
from gateway.proxy.answers.tally import Tally
from gateway.serving import collect_seldom
from gateway.yaml_source import Place
from tests.support.policies import BASES, HERE, ask, caller, engine, load, policy

UPSTREAM, PUBLIC = "http://upstream:8080/fhir", "https://gw.example/fhir/r4"
OWN = (
    "rule: own, effect: permit, who: {context: patient}, may: [read, search], resources: [Observation], "
    'where: {compartment: {patient: "{token.patient}"}}'
)
_CHUNK = 64 * 1024
_LINES = 2_000


def rows(runs: int) -> list[dict[str, Any]]:
    """Every row, each a median over so many runs."""
    # The Bundle as any program of Python sees it, and as a process that serves: the collector runs less often there.
    filtered = _bundle(runs, "filter-1m")
    collect_seldom()
    return [*_candidates(), *filtered, *_bundle(runs, "filter-1m-serving"), _ndjson(), _tables()]


def _tables() -> dict[str, Any]:
    """The tables of R4 as they are read at start, in an interpreter of its own, so that nothing is loaded yet."""
    code = (
        "import json, gzip, importlib.resources, time; before = time.process_time();"
        "from gateway.fhir.definitions import element_exists, search_parameter;"
        "assert element_exists('Observation.subject') and search_parameter('Observation', 'code');"
        "print(time.process_time() - before)"
    )
    found = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    return _plain(
        "tables-load", "securus", statistics.median(found) * 1e6, len(found), "the tables of R4, at start"
    )


def _candidates() -> list[dict[str, Any]]:
    """Which rules may match, and the whole decision, by 100 and by 10 000 rules about one type."""
    found = []
    asked = ask("GET /Observation/x")
    for count in (100, 1_000, 10_000):
        rules = [_rule(number) for number in range(count)]
        index = RuleIndex(rules, ())
        whole = Engine(load(policy(OWN)), bases=BASES).with_rules(tuple(rules))
        pick = random.Random(count)
        questions = [_question(pick) for _ in range(2_000)]
        chosen = _each(partial(_candidates_of, index), questions)
        callers = [
            caller("user", client=next(iter(v["client"])), roles=sorted(v["roles"]), org=next(iter(v["org"])))
            for v in questions
        ]
        decided = _each(partial(_decided, whole, asked), callers, as_new=replace)
        again = _each(partial(_decided, whole, asked), callers)
        found.append(_spread(f"candidates-{count}-rules", chosen, "rules that may match a caller"))
        found.append(
            _spread(f"decide-{count}-rules", decided, "the whole decision on a read, of a caller who is new")
        )
        found.append(_spread(f"decide-{count}-again", again, "the same of a caller who was here before"))
    return found


def _candidates_of(index: RuleIndex, values: Mapping[str, frozenset[str]]) -> object:
    return index.candidates("Observation", Interaction.READ, values, frozenset())


def _decided(whole: Engine, asked: FhirRequest, who: Caller) -> object:
    return whole.decide(asked, who, HERE)


def _rule(number: int) -> Rule:
    pick = random.Random(number)
    who = [Dimension("client", frozenset({f"client-{pick.randrange(400)}"}))]
    if pick.random() < 0.7:
        who.append(Dimension("roles", frozenset({f"role-{pick.randrange(30)}"})))
    if pick.random() < 0.5:
        who.append(Dimension("org", frozenset({f"org-{pick.randrange(20)}"}), negated=pick.random() < 0.2))
    effect = Effect.PERMIT if pick.random() < 0.9 else Effect.DENY
    return Rule(
        id=f"p/{number}", effect=effect, who=tuple(who), networks=None, may=frozenset({Interaction.READ}),
        resources=frozenset({"Observation"}), where=Where(), shared=True, conceal=False, audit="standard", because="",
        place=Place("bench", 1, 1),
    )  # fmt: skip


def _question(pick: random.Random) -> dict[str, frozenset[str]]:
    return {
        "client": frozenset({f"client-{pick.randrange(400)}"}),
        "roles": frozenset({f"role-{pick.randrange(30)}", f"role-{pick.randrange(30)}"}),
        "org": frozenset({f"org-{pick.randrange(20)}"}),
    }


def _each(
    work: Callable[[Any], object],
    questions: list[Any],
    as_new: Callable[[Any], Any] = lambda question: question,
) -> list[float]:
    """Microseconds of CPU of each question, the better of two, so that no other process is counted."""
    found = []
    for question in questions:
        both = []
        for _ in range(2):
            asked = as_new(question)
            before = time.thread_time_ns()
            work(asked)
            both.append((time.thread_time_ns() - before) / 1e3)
        found.append(min(both))
    return sorted(found)


def _spread(case: str, found: list[float], note: str) -> dict[str, Any]:
    middle, late = (found[int(len(found) * share)] for share in (0.5, 0.99))
    return {
        "case": case, "subject": "securus", "cpu_us": round(middle, 2), "requests_per_second": round(1e6 / middle),
        "p50_ms": round(middle / 1e3, 4), "p99_ms": round(late / 1e3, 4), "peak_rss_mb": 0, "runs": len(found), "note": note,
    }  # fmt: skip


def observation(number: int) -> dict[str, Any]:
    """A laboratory result of patient A, as stores write it."""
    coding = [{"system": "http://loinc.org", "code": "4548-4", "display": "Hemoglobin A1c"}]
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final",
        "meta": {"versionId": "1", "lastUpdated": "2026-01-02T03:04:05Z"},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                                  "code": "laboratory", "display": "Laboratory"}]}],
        "code": {"coding": coding, "text": "HbA1c"},
        "subject": {"reference": "Patient/A"}, "encounter": {"reference": "Encounter/e1"},
        "effectiveDateTime": "2026-01-01T00:00:00Z", "issued": "2026-01-01T00:00:00Z",
        "valueQuantity": {"value": 6.5, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        "referenceRange": [{"low": {"value": 4.0}, "high": {"value": 5.6}, "text": "x" * 160}],
    }  # fmt: skip


def _bundle(runs: int, case: str) -> list[dict[str, Any]]:
    """A search Bundle of 1 MB, filtered, beside its plain parse by orjson."""
    permit = engine(OWN).decide(ask("GET /Observation"), caller("patient", patient="A"), HERE)
    if not isinstance(permit, Permit) or permit.judge is None:
        raise RuntimeError("the search is refused")
    judge = permit.judge
    entries = [
        {"fullUrl": f"{UPSTREAM}/Observation/o{n}", "resource": observation(n), "search": {"mode": "match"}}
        for n in range(1_000)
    ]
    link = [{"relation": "self", "url": f"{UPSTREAM}/Observation?subject=Patient/A"}]
    value = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entries}
    content = json.dumps(value, separators=(",", ":")).encode()

    async def filtered() -> int:
        tally = Tally()
        found = BundleFilter(
            judges={"Observation": judge}, upstream=UPSTREAM, public=PUBLIC, kind="searchset", added=permit.added,
            exact=permit.exact, self_url="x", seal=lambda target: None, tally=tally, bases=BASES,
        ).run(_chunks(content))  # fmt: skip
        async for _ in found:
            pass
        return tally.shown

    if asyncio.run(filtered()) != len(entries):
        raise RuntimeError("the filter left something out")
    seen: dict[str, list[float]] = {"securus": [], "orjson.loads": []}
    for _ in range(max(9, runs * 3)):
        for name, work in (
            ("securus", lambda: asyncio.run(filtered())),
            ("orjson.loads", lambda: orjson.loads(content)),
        ):
            work()  # with memory and caches as in a process that is at work
            before = time.process_time_ns()
            work()
            seen[name].append((time.process_time_ns() - before) / 1e3)
    note = f"a Bundle of {len(content)} bytes and {len(entries)} entries"
    return [_plain(case, name, statistics.median(times), len(times), note) for name, times in seen.items()]


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _CHUNK):
        yield content[start : start + _CHUNK]


def _plain(case: str, subject: str, cpu_us: float, runs: int, note: str) -> dict[str, Any]:
    return {
        "case": case, "subject": subject, "cpu_us": round(cpu_us, 1),
        "requests_per_second": round(1e6 / cpu_us), "p50_ms": round(cpu_us / 1e3, 2), "p99_ms": 0, "peak_rss_mb": 0,
        "runs": runs, "note": note,
    }  # fmt: skip


def _ndjson() -> dict[str, Any]:
    """A file of an export of 1 GB: microseconds of CPU for a megabyte, and how far memory grew."""
    permit = engine(OWN).decide(ask("GET /Observation"), caller("patient", patient="A"), HERE)
    if not isinstance(permit, Permit) or permit.judge is None:
        raise RuntimeError("the search is refused")
    lines = b"".join(
        json.dumps(observation(n), separators=(",", ":")).encode() + b"\n" for n in range(_LINES)
    )
    rounds = 2**30 // len(lines) + 1
    judge, tally = permit.judge, Tally()

    async def run() -> float:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(rounds):
                async for chunk in _chunks(lines):
                    yield chunk

        async for _ in NdjsonFilter(judge, UPSTREAM, PUBLIC, tally, 1024 * 1024).run(chunks()):
            pass
        return time.process_time()

    _forget_peak()
    before, resident = time.process_time(), _resident()
    used = asyncio.run(run()) - before
    if tally.shown != rounds * _LINES:
        raise RuntimeError("the filter left something out")
    megabytes = rounds * len(lines) / 1e6
    row = _plain(
        "ndjson-1g", "securus", used / megabytes * 1e6, 1, "CPU for a megabyte of 1 GB; MB: growth of memory"
    )
    return {**row, "peak_rss_mb": round(max(0.0, _peak() - resident), 1)}


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak() -> float:
    """The most memory since _forget_peak()."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e6


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
        peak.write("5")
