"""Tables made from the FHIR R4 definitions (4.0.1), which HL7 publishes under CC0. See build_tables.py."""
