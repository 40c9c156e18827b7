"""Consents that the gateway keeps itself: a FHIR R4 server for Consent behind the passage of every other request."""
