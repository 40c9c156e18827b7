"""Which parameters policies add to searches: what a store must be able to search by."""

from gateway.policy.reading.criteria_used import criteria_used
from tests.support.policies import load, policy

OWN = 'where: {compartment: {patient: "{token.patient}"}}'


def test_criteria_and_compartments_of_searches_count_and_those_of_reads_do_not() -> None:
    used = criteria_used(
        load(
            policy(
                f"rule: own, effect: permit, may: [read, search], resources: [Observation, Patient], {OWN}",
                "rule: some, effect: permit, may: [search], resources: [Condition],"
                ' where: {match: {Condition: "category=x&clinical-status:not=y"}}',
                "rule: one, effect: permit, may: [read], resources: [Encounter],"
                " where: {match: {Encounter: status=finished}}",
            )
        )
    )
    assert used == {
        "Observation": {"subject"},
        "Patient": {"_id"},
        "Condition": {"category", "clinical-status"},
    }
