"""Clinical documents in CDA R2 (HL7): what a decision needs of one, read safely."""
