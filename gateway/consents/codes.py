"""Code systems that consents are made of, beside that of their scopes (FHIR R4 Consent, IHE PCF)."""

PARTICIPATIONS = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
