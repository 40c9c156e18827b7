"""What is asked, in FHIR's own words."""
