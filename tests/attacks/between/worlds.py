"""The worlds of these cases beside those of the table.

'boxes' opens what holds other resources; 'dates' rounds and hides dates; 'bundles' lets people send Bundles.
"""

from tests.attacks.table.worlds import POLICIES as OF_THE_TABLE

_TESTS = "tests:\n  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}\n"

BOXES = """\
policy: boxes
version: 1
owner: tests
status: enforce
text: Bundles and lists are open, what is in them goes by its own rules.
rules:
  - rule: boxes
    effect: permit
    may: [read, vread, history-instance, search, create, update, patch, delete]
    resources: [Bundle, Parameters]
    shared: true
    because: They say nothing by themselves.
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search, create, update, patch, delete]
    resources: [Patient, Composition, Observation, List]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person keeps the own record.
  - rule: directory
    effect: permit
    may: [read, search]
    resources: [Practitioner]
    shared: true
    because: Names of care givers are for all.
  - rule: charts-without-names
    effect: permit
    who: {context: user}
    may: [read, vread, search]
    resources: [Patient, Composition, Encounter, Observation]
    shared: true
    return: {hide: [Patient.name, Patient.identifier]}
    because: For planning.
  - rule: not-what-is-special
    effect: deny
    who: {context: user}
    may: [any]
    resources: [Observation]
    where: {labels: {any_of: ["v3-ActCode|PSY"]}}
    because: For its team.
"""

DATES = """\
policy: dates
version: 1
owner: tests
status: enforce
text: Years alone, and what nobody dates.
rules:
  - rule: own-record-by-year
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search, "operation:Patient/$everything"]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    return: {round_dates: {Observation.effective: year, Observation.meta.lastUpdated: year}}
    query: {include: any-permitted}
    conceal: true
    because: For a study.
  - rule: results-without-dates
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search]
    resources: [Observation]
    shared: true
    return: {only: [Observation.status, Observation.code]}
    because: For counting.
  - rule: whole-conditions
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search]
    resources: [Condition]
    shared: true
    because: For care.
"""

POLICIES: dict[str, str] = OF_THE_TABLE | {"boxes": BOXES + _TESTS, "dates": DATES + _TESTS}
