"""Lines of the audit log as FHIR R4 AuditEvents that follow IHE BALP. Pure: what a line does not say is not said."""
