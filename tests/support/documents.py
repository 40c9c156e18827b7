"""Small clinical documents, each with the one thing that a test is about."""

OID = "2.16.840.1.113883.19.5"
"""The assigning authority of the identifiers in these documents."""


def document(
    *,
    declaration: str = '<?xml version="1.0" encoding="UTF-8"?>',
    prolog: str = "",
    root: str = '<ClinicalDocument xmlns="urn:hl7-org:v3">',
    confidentiality: str = '<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>',
    ids: str = f'<id root="{OID}" extension="mrn-A"/>',
    after_role: str = "",
    before: str = "",
    body: str = "<structuredBody/>",
    after: str = "",
    errors: str = "strict",
) -> bytes:
    """A ClinicalDocument. before stands before its component, after behind it."""
    text = (
        f"{declaration}{prolog}{root}"
        '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/><id root="1.2.3.4"/>'
        '<code code="34133-9" codeSystem="2.16.840.1.113883.6.1"/>'
        f'<effectiveTime value="20260102030405+0000"/>{confidentiality}'
        f"<recordTarget><patientRole>{ids}</patientRole>{after_role}</recordTarget>"
        '<author><time value="20260102"/><assignedAuthor><representedOrganization><id root="1.5"/><name>Ward</name>'
        "</representedOrganization></assignedAuthor></author>"
        "<custodian><assignedCustodian><representedCustodianOrganization>"
        '<id root="1.6"/><name>Hospital One</name>'
        "</representedCustodianOrganization></assignedCustodian></custodian>"
        f"{before}<component>{body}</component>{after}</ClinicalDocument>"
    )
    return text.encode(errors=errors)
