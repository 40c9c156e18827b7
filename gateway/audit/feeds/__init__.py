"""Deliveries of the audit log to others, in order and at least once: by FHIR, by syslog, into a file (IHE ATNA ITI-20)."""
