"""FHIR XML and JSON mean the same: there and back is the identity, and what one cannot say the other is not given."""

import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.demo.fhir_store import sample_resources
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import Number, parse_json, write_resource
from gateway.fhir.xhtml import check_narratives, one_spelling
from gateway.fhir.xml_parser import XmlError
from gateway.fhir.xml_reading import parse_resource_xml
from gateway.fhir.xml_shapes import Kind, shapes
from gateway.fhir.xml_writing import write_resource_xml
from tests.support.random_resources import RandomResources

FHIR = "http://hl7.org/fhir"
ANNA = '<Patient><active value="true"/></Patient>'
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


def patient(inner: str, *, root: str = "Patient", head: str = "") -> bytes:
    return f'{head}<{root} xmlns="{FHIR}">{inner}</{root}>'.encode()


def told(content: bytes) -> str:
    with pytest.raises(FhirError) as refused:
        parse_resource_xml(content)
    assert refused.value.reason is Reason.INVALID_BODY
    assert refused.value.diagnostics.isascii()
    assert '"' not in refused.value.diagnostics
    return refused.value.diagnostics


def test_every_sample_resource_is_the_same_after_xml() -> None:
    held = [parse_json(json.dumps(resource).encode()) for resource in sample_resources()]
    assert len({resource["resourceType"] for resource in held}) > 10
    for resource in held:
        assert parse_resource_xml(write_resource_xml(resource)) == resource


def test_a_resource_in_xml_as_the_specification_writes_it() -> None:
    value = parse_json(
        b'{"resourceType":"Observation","id":"x","text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/'
        b'1999/xhtml\\">a &lt; b<br/></div>"},"contained":[{"resourceType":"Patient","id":"p","active":true}],'
        b'"extension":[{"url":"u:1","id":"e","valueDecimal":1.50}],"status":"final","_status":{"id":"s"},'
        b'"code":{"text":"\\"&\\n"},"valueQuantity":{"value":10,"unit":"%"}}'
    )
    xml = write_resource_xml(value).decode()
    assert xml == (
        '<?xml version="1.0" encoding="UTF-8"?><Observation xmlns="http://hl7.org/fhir"><id value="x"/>'
        f'<text><status value="generated"/>{DIV}a &lt; b<br/></div></text>'
        '<contained><Patient><id value="p"/><active value="true"/></Patient></contained>'
        '<extension id="e" url="u:1"><valueDecimal value="1.50"/></extension><status id="s" value="final"/>'
        '<code><text value="&quot;&amp;&#10;"/></code><valueQuantity><value value="10"/><unit value="%"/>'
        "</valueQuantity></Observation>"
    )
    assert parse_resource_xml(xml.encode()) == value


def test_a_resource_may_be_empty() -> None:
    assert parse_resource_xml(patient("")) == {"resourceType": "Patient"}
    assert write_resource_xml({"resourceType": "Patient"}).endswith(b'<Patient xmlns="http://hl7.org/fhir"/>')


def test_members_come_in_the_order_of_the_definition() -> None:
    value = {
        "birthDate": "2000",
        "name": [{"given": ["A"], "family": "B"}],
        "id": "x",
        "resourceType": "Patient",
    }
    xml = write_resource_xml(value).decode()
    assert (
        xml.index("<id")
        < xml.index("<name")
        < xml.index("<family")
        < xml.index("<given")
        < xml.index("<birthDate")
    )


def test_decimals_keep_their_text() -> None:
    for text in ("1.50", "0.010", "-3.0", "1e-7", "12345678901234567890.10"):
        value = {"resourceType": "Observation", "valueQuantity": {"value": Number(text)}}
        back = parse_resource_xml(write_resource_xml(value))
        assert back == value
        assert f'"value":{text}}}'.encode() in write_resource(back)


def test_primitives_that_repeat_keep_their_extensions_in_place() -> None:
    extension = {"extension": [{"url": "u", "valueCode": "c"}]}
    value = {
        "resourceType": "Patient",
        "name": [{"given": ["A", None, "C"], "_given": [None, extension, {"id": "i"}]}],
    }
    assert parse_resource_xml(write_resource_xml(value)) == value
    bare = {"resourceType": "Patient", "name": [{"_given": [extension]}]}
    assert parse_resource_xml(write_resource_xml(bare)) == bare


@pytest.mark.parametrize(
    "content",
    [
        patient('<active value="true"/>').replace(b"<", b"\n <"),
        patient('<!-- nothing --><active value="true"></active><!-- more -->'),
        b'<f:Patient xmlns:f="http://hl7.org/fhir"><f:active value="true"/></f:Patient>',
        patient('<a:active xmlns:a="http://hl7.org/fhir" value="&#116;rue"/>'),
        patient("<active value='true'/>", head='<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n'),
        patient('<active value="true"/><![CDATA[ \n]]>'),
    ],
    ids=["white space", "comments", "prefix", "another prefix", "declaration", "empty CDATA"],
)
def test_one_value_has_many_spellings(content: bytes) -> None:
    assert parse_resource_xml(content) == {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (patient("", head='<!DOCTYPE Patient SYSTEM "http://evil.example/x.dtd">'), "DOCTYPE"),
        (patient("<id value='&e;'/>", head="<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>"), "DOCTYPE"),
        (patient("<id value='&b;'/>", head="<!DOCTYPE x [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]>"), "DOCTYPE"),
        (patient("<id value='&e;'/>"), "not well-formed"),
        (patient("", head='<?xml-stylesheet href="http://evil.example/x.xsl"?>'), "instruction"),
        (patient('<?php x ?><active value="true"/>'), "instruction"),
        (patient('<active value="true"/>', head='<?xml version="1.1"?>'), "version 1.0"),
        (patient('<active value="true"/>', head='<?xml version="1.0" encoding="utf-7"?>'), "UTF-8"),
        (patient('<active value="true"/>', head='<?xml version="1.0" encoding="iso-8859-1"?>'), "UTF-8"),
        (patient('<active value="true"/>').decode().encode("utf-16"), "not UTF-8"),
        (patient('<active value="true"/>').decode().encode("utf-16-le"), "NUL"),
        (patient('<active value="true"/>').decode().encode("utf-16-be"), "NUL"),
        (patient('<active value="true"/>').replace(b"<", b"+ADw-"), "not well-formed"),
        (patient('<id value="\xe4"/>').decode().encode("latin-1"), "not UTF-8"),
        (b"\xef\xbb\xbf" + patient('<active value="true"/>'), "byte order mark"),
        (patient('<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'), "no such element"),
        (patient('<active value="true"/>').replace(b"<Patient ", b'<Patient xmlns:xsi="http://www.w3.org/2001/'
         b'XMLSchema-instance" xsi:schemaLocation="x http://evil.example/x.xsd" '), "no attributes"),
        (patient('<active value="true"/><active value="false"/>'), "may occur once"),
        (patient('<gender value="male"/><active value="true"/>'), "stands behind"),
        (patient('<name><family value="a"/></name><gender value="male"/><name><family value="b"/></name>'), "stands behind"),
        (patient('<active value="true" value="false"/>'), "not well-formed"),
        (patient('text<active value="true"/>'), "text between"),
        (patient('<active value="true">yes</active>'), "text between"),
        (patient('<active value="true"/><![CDATA[x]]>'), "text between"),
        (patient('<active xmlns="" value="true"/>'), "namespace"),
        (patient('<active xmlns="urn:hl7-org:v3" value="true"/>'), "namespace"),
        (patient('<x:active xmlns:x="urn:x" value="true"/>'), "namespace"),
        (b'<Patient><active value="true"/></Patient>', "expected, in the namespace"),
        (b'<Patient xmlns="urn:hl7-org:v3"><active value="true"/></Patient>', "expected, in the namespace"),
        (patient('<active xmlns:x="urn:x" x:value="true"/>'), "no such attribute"),
        (patient('<active value="true" url="x"/>'), "no such attribute"),
        (patient('<unknown value="x"/>'), "no such element"),
        (patient('<id value="x"/>', root="Nonsense"), "expected, in the namespace"),
        (patient('<id value=""/>'), "empty"),
        (patient("<name/>"), "empty"),
        (patient("<active/>"), "empty"),
        (patient('<active value="yes"/>'), "not a boolean"),
        (patient('<multipleBirthInteger value="1.0"/>'), "not a integer"),
        (patient('<valueQuantity><value value="+1"/></valueQuantity>', root="Observation"), "not a decimal"),
        (patient('<valueQuantity><value value="NaN"/></valueQuantity>', root="Observation"), "not a decimal"),
        (patient(f"<contained>{ANNA}{ANNA}</contained>"), "one resource"),
        (patient('<contained value="x"><Patient><active value="true"/></Patient></contained>'), "no such attribute"),
        (patient('<contained><active value="true"/></contained>'), "expected, in the namespace"),
        (patient("<contained/>"), "empty"),
        (patient('<active value="true"/>') + patient('<active value="true"/>'), "not well-formed"),
        (patient('<resourceType value="Observation"/>'), "no such element"),
        (patient('<active value="true"/>')[:-3], "not well-formed"),
        (patient("<extension>" * 70), "nested deeper"),
        (patient("<active " + " ".join(f'a{i}="1"' for i in range(40)) + "/>"), "attributes"),
        (patient("<active value='true' " + " ".join(f'xmlns:n{i}="urn:{i}"' for i in range(70)) + "/>"), "namespaces"),
        (patient("<text><status value='generated'/><div><p/></div></text>"), "namespace"),
        (patient(f"<text><status value='generated'/>{DIV}<x xmlns='{FHIR}'/></div></text>"), "one div"),
        (b"", "not well-formed"),
    ],
)  # fmt: skip
def test_what_has_a_second_reading_or_an_attack_in_it_is_refused(content: bytes, why: str) -> None:
    assert why in told(content)


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        '<p onclick="alert(1)">x</p>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="jAva&#10;script:alert(1)">x</a>',
        '<a href=" &#1;vbscript:x">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<iframe src="http://evil.example/"/>',
        "<form><input/></form>",
        "<object data='x'/>",
        '<p style="background:url(http://evil.example/)">x</p>',
        '<p style="width: expression(alert(1))">x</p>',
        '<svg xmlns="http://www.w3.org/2000/svg"/>',
        '<p xlink:href="x" xmlns:xlink="http://www.w3.org/1999/xlink">x</p>',
    ],
)
def test_a_narrative_that_runs_is_not_stored(inner: str) -> None:
    value = {
        "resourceType": "Patient",
        "contained": [{"text": {"status": "generated", "div": f"{DIV}{inner}</div>"}}],
    }
    with pytest.raises(FhirError) as refused:
        check_narratives(value)
    assert refused.value.reason is Reason.INVALID_BODY
    check_narratives(value, before=value)


def test_what_others_stored_is_passed_on() -> None:
    div = f"{DIV}<script>x</script></div>"
    value = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    assert parse_resource_xml(write_resource_xml(value)) == value


def test_the_narratives_of_the_samples_are_at_rest() -> None:
    for resource in sample_resources():
        check_narratives(resource)


def test_a_narrative_at_rest_is_taken_in_one_spelling() -> None:
    content = (
        "<text><status value='generated'/><h:div xmlns:h='http://www.w3.org/1999/xhtml'>"
        '<h:p style="color: red" xml:lang="de">&#228; &amp; <h:b>b</h:b><!-- c --><![CDATA[<i>]]>'
        '<h:img src="data:image/png;base64,x" alt="y"></h:img></h:p></h:div></text>'
    )
    found = parse_resource_xml(patient(content))["text"]["div"]
    assert found == (
        f'{DIV}<p style="color: red" xml:lang="de">\u00e4 &amp; <b>b</b>&lt;i&gt;'
        '<img src="data:image/png;base64,x" alt="y"/></p></div>'
    )
    assert one_spelling(found) == found


@pytest.mark.parametrize(
    "div",
    [
        "",
        "text",
        "<div>no namespace</div>",
        f"{DIV}</div><div/>",
        f"{DIV}</div></text><subject><reference value='Patient/B'/></subject><text>",
        f"{DIV}&nbsp;</div>",
        f"<!DOCTYPE div>{DIV}</div>",
        f"{DIV}<?x?></div>",
        f"{DIV}\ud800</div>",
    ],
)
def test_a_stored_narrative_cannot_break_out_of_its_place(div: str) -> None:
    with pytest.raises(XmlError):
        one_spelling(div)
    with pytest.raises(FhirError) as refused:
        write_resource_xml({"resourceType": "Patient", "text": {"status": "generated", "div": div}})
    assert refused.value.status == 406


@pytest.mark.parametrize(
    "members",
    [
        {"unknown": "x"},
        {"name": {"family": "x"}},
        {"name": []},
        {"name": [{}]},
        {"name": [None]},
        {"name": ["x"]},
        {"active": "true"},
        {"active": 1},
        {"active": [True]},
        {"active": None},
        {"gender": 1},
        {"gender": ""},
        {"gender": "\x01"},
        {"gender": "\ufffe"},
        {"gender": "\ud800"},
        {"multipleBirthInteger": True},
        {"multipleBirthInteger": Number("1.0")},
        {"_name": [{"id": "x"}]},
        {"_active": {}},
        {"_active": {"value": "x"}},
        {"__active": {"id": "x"}},
        {"_id": {"resourceType": "Patient"}},
        {"extension": [{"url": 1}]},
        {"extension": [{"_url": {"id": "x"}, "url": "x"}]},
        {"contained": [{"id": "x"}]},
        {"contained": [{"resourceType": "Nonsense", "id": "x"}]},
        {"fhir_comments": ["x"]},
        {"name": [{"resourceType": "Patient"}]},
    ],
    ids=repr,
)
def test_what_xml_cannot_say_is_refused_and_never_dropped(members: dict[str, Any]) -> None:
    with pytest.raises(FhirError) as refused:
        write_resource_xml({"resourceType": "Patient", **members})
    assert refused.value.reason is Reason.NOT_ACCEPTABLE
    assert "ask for JSON" in refused.value.diagnostics


@pytest.mark.parametrize(
    "value", [{}, {"resourceType": 1}, {"resourceType": "Element"}, {"resourceType": "Patient/"}]
)
def test_what_is_no_resource_is_not_written(value: dict[str, Any]) -> None:
    with pytest.raises(FhirError):
        write_resource_xml(value)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(RESOURCE_TYPES)))
def test_any_value_of_the_definitions_is_the_same_after_xml(random: Random, type_: str) -> None:
    value = RandomResources(random).resource(type_)
    xml = write_resource_xml(value)
    assert parse_resource_xml(xml) == value
    assert write_resource_xml(parse_resource_xml(xml)) == xml


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_break_the_reader(noise: bytes, place: int) -> None:
    whole = patient(f"<text><status value='generated'/>{DIV}x</div></text><name><given value='a'/></name>")
    for content in (noise, whole[:place] + noise + whole[place:]):
        value = None
        with suppress(FhirError):
            value = parse_resource_xml(content)
        if value is not None:
            assert parse_resource_xml(write_resource_xml(value)) == value


def test_every_shape_has_a_kind_that_its_type_has() -> None:
    assert shapes("Patient")["id"].kind is Kind.TEXT
    assert shapes("HumanName")["id"].kind is Kind.ATTRIBUTE
    assert shapes("Extension")["url"].kind is Kind.ATTRIBUTE
    assert shapes("ValueSet")["url"].kind is Kind.TEXT
    assert shapes("Bundle.entry.response")["outcome"].kind is Kind.RESOURCE
    assert shapes("Narrative")["div"].kind is Kind.XHTML
    assert "modifierExtension" in shapes("Dosage")
    assert "modifierExtension" not in shapes("HumanName")
    assert "modifierExtension" not in shapes("Timing.repeat")
    assert shapes("Nonsense") == {}
