"""Documents that no FHIR store keeps: their services, behind the same passage as FHIR."""
