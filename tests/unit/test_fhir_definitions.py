"""gateway.fhir.definitions and fhirpath: what R4 has, and that its expressions can be judged."""

import pytest

from gateway.fhir.definitions import (
    RESOURCE_TYPES,
    element_exists,
    element_names,
    is_resource_type,
    members,
    patient_compartment,
    search_parameter,
    search_parameters,
)
from gateway.fhir.fhirpath import ExpressionError, compile_expression


def test_R4_has_146_resource_types_and_66_in_the_patient_compartment() -> None:
    assert len(RESOURCE_TYPES) == 146
    assert sum(1 for type in RESOURCE_TYPES if patient_compartment(type)) == 66
    assert sum(len(patient_compartment(type)) for type in RESOURCE_TYPES) == 100
    assert not any(
        is_resource_type(name) for name in ("Resource", "DomainResource", "patient", "", "Element")
    )


def test_each_compartment_parameter_is_a_reference_parameter_of_its_type() -> None:
    for type in RESOURCE_TYPES:
        for code in patient_compartment(type):
            parameter = search_parameter(type, code)
            assert parameter is not None
            assert parameter.type == "reference"


@pytest.mark.parametrize(
    "path",
    [
        "Observation.subject",
        "Observation.subject.reference",
        "Observation.value",
        "Observation.value[x]",
        "Observation.valueQuantity.value",
        "Observation.component.referenceRange.low.value",
        "Patient.name.family",
        "Patient.text.div",
        "Patient.extension.url",
        "Bundle.entry.link.url",
        "Timing.repeat.boundsPeriod.start",
    ],
)
def test_an_element_of_R4_exists(path: str) -> None:
    assert element_exists(path)


@pytest.mark.parametrize(
    "path",
    ["Observation", "Observation.sub", "Observation.Subject", "Nothing.id", "Bundle.text", "Patient.name.", "",
     "Patient..name", "Observation.status.x", "Observation.valueReference"],
)  # fmt: skip
def test_another_element_does_not(path: str) -> None:
    assert not element_exists(path)


def test_element_names_list_what_stands_below() -> None:
    assert element_names("Reference") == ("display", "extension", "id", "identifier", "reference", "type")
    assert "valueQuantity" in element_names("Observation.component")
    assert element_names("Observation.status") == ()


def test_every_choice_has_its_JSON_names() -> None:
    assert members("Observation")["effectivePeriod"].type == "Period"
    assert "effective" not in members("Observation")


def test_all_but_three_expressions_of_R4_compile() -> None:
    refused = set()
    for type in RESOURCE_TYPES:
        for code, parameter in search_parameters(type).items():
            if parameter.expression and parameter.type != "composite":
                try:
                    compile_expression(parameter.expression)
                except ExpressionError:
                    refused.add((type, code))
    assert refused == {("Bundle", "composition"), ("Bundle", "message"), ("Patient", "deceased")}


@pytest.mark.parametrize(
    "expression",
    [
        "Patient.nme",
        "Patient.name.first()",
        "Nothing.id",
        "Patient.name.where(use='official'",
        "Patient.name.where(uze='official')",
        "Patient.name.where(resolve() is Patient)",
        "Patient.managingOrganization.where(resolve() is Nothing)",
        "Observation.value.ofType(Reference)",
        "Patient.deceased.exists() and true",
        "Bundle.entry[0].resource",
        "Patient.",
        "",
        "|",
        "Patient.name Patient.id",
    ],
)
def test_an_expression_that_cannot_be_judged_is_refused_when_it_is_compiled(expression: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(expression)


def test_values_come_from_choices_filters_and_unions() -> None:
    resource = {
        "resourceType": "Observation",
        "valueQuantity": {"value": 1},
        "subject": {"reference": "http://x/fhir/Patient/A"},
        "component": [{"valueQuantity": {"value": 2}}, {"valueString": "x"}, None, "no object"],
    }
    both = compile_expression(
        "(Observation.value as Quantity) | Observation.component.value.ofType(Quantity)"
    )
    assert both.values(resource) == [{"value": 1}, {"value": 2}]
    subject = "Observation.subject.where(resolve() is {})"
    assert compile_expression(subject.format("Patient")).values(resource) == [resource["subject"]]
    assert compile_expression(subject.format("Group")).values(resource) == []
    assert compile_expression("Patient.telecom.where(system='phone').value").values(
        {"telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}]}
    ) == ["1"]


def test_a_reference_cannot_hide_in_an_array_of_arrays() -> None:
    found = compile_expression("Observation.performer").values({"performer": [[{"reference": "Patient/B"}]]})
    assert found == [{"reference": "Patient/B"}]
