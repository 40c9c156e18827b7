"""Makes the clinical documents of the demonstration from the C-CDA samples of HL7; run by hand, never imported.

usage: python gateway/demo/data/build_documents.py FOLDER, with the samples as NAME.xml or NAME.xml.gz
The body stays as HL7 wrote it. The record target becomes one of the people in patients.json.gz; title, code and
confidentiality are set, sections left out or labelled as the table here says.
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

LICENCES = "2.16.840.1.113883.4.3.25"
HOSPITAL = "2.16.840.1.113883.19.5.99999.2"
_STEPHEN, _ANTONY, _LIZ = "S99910268", "S99934989", "S99928510"
_BETWEEN = r"(?:\s|<!--(?:(?!-->).)*-->)*"
_SECTION = re.compile(rf"<component\b[^>]*>{_BETWEEN}<section\b.*?</section>{_BETWEEN}</component>", re.S)
_TITLE = re.compile(r"<title>(.*?)</title>", re.S)
_MEDICATION_SUMMARY = (
    '<code code="56445-0" codeSystem="2.16.840.1.113883.6.1" codeSystemName="LOINC"'
    ' displayName="Medication summary Document"/>'
)

# name, sample, licence of the patient, confidentiality, section that is labelled R, the one section that is kept
DOCUMENTS: tuple[tuple[str, str, str, str, str | None, str | None], ...] = (
    ("stephen-summary", "CCD_1", _STEPHEN, "N", "SOCIAL HISTORY", None),
    ("stephen-medications", "CCD_1", _STEPHEN, "N", None, "MEDICATIONS"),
    ("stephen-restricted", "Progress_Note", _STEPHEN, "R", None, None),
    ("antony-summary", "CCD_2", _ANTONY, "N", None, None),
    ("liz-imaging", "Diagnostic_Imaging_Report", _LIZ, "N", None, None),
)


def record_target(patient: dict[str, Any]) -> str:
    """The record target that names this patient, by the hospital's number and the driver's licence."""
    numbers = {each.get("system"): each["value"] for each in patient["identifier"]}
    name = patient["name"][0]
    given = "".join(f"<given>{each}</given>" for each in name["given"])
    return (
        "<recordTarget><patientRole>"
        f'<id root="{HOSPITAL}" extension="{numbers["http://hospital.smarthealthit.org"]}"/>'
        f'<id root="{LICENCES}" extension="{numbers["urn:oid:" + LICENCES]}"/>'
        f"<patient><name>{given}<family>{name['family']}</family></name>"
        f'<administrativeGenderCode code="{patient["gender"][0].upper()}" codeSystem="2.16.840.1.113883.5.1"/>'
        f'<birthTime value="{patient["birthDate"].replace("-", "")}"/></patient></patientRole></recordTarget>'
    )


def document(
    sample: str, patient: dict[str, Any], confidentiality: str, restricted: str | None, only: str | None
) -> str:
    """The sample as a document about this patient."""
    text = re.sub(r"<recordTarget>.*</recordTarget>", lambda _: record_target(patient), sample, flags=re.S)
    label = f'<confidentialityCode code="{confidentiality}" codeSystem="2.16.840.1.113883.5.25"/>'
    text = re.sub(r"<confidentialityCode\b.*?/>", lambda _: label, text, count=1, flags=re.S)

    def section(found: re.Match[str]) -> str:
        title = _TITLE.search(found[0])
        named = "" if title is None else title[1].strip()
        if only is not None and named != only:
            return ""
        if named != restricted:
            return found[0]
        code = '<confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>'
        return found[0].replace("</text>", f"</text>{code}", 1)

    text = _SECTION.sub(section, text)
    if only is not None:
        text = re.sub(r"<code\b.*?/>", lambda _: _MEDICATION_SUMMARY, text, count=1, flags=re.S)
        text = _TITLE.sub("<title>Medication summary</title>", text, count=1)
    return text


def main(samples: Path, out: Path) -> None:
    """Write each document, compressed."""
    people = json.loads(gzip.decompress((out / "patients.json.gz").read_bytes()))
    by_licence = {
        each["value"]: person
        for person in people
        if person["resourceType"] == "Patient"
        for each in person["identifier"]
        if each.get("system") == f"urn:oid:{LICENCES}"
    }
    for name, sample, licence, confidentiality, restricted, only in DOCUMENTS:
        plain, packed = samples / f"{sample}.xml", samples / f"{sample}.xml.gz"
        read = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
        made = document(read.decode("utf-8-sig"), by_licence[licence], confidentiality, restricted, only)
        (out / f"{name}.xml.gz").write_bytes(gzip.compress(made.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
