"""The audit log: what happened, so kept that nobody changes it unnoticed.

log            appends records to the chain of this process
lines          how a line is made behind the one before: pure
chains         which chain that is
merkle         the tree over the lines of a chain, and its proofs (RFC 9162 2.1): pure
heads          signed tree heads and stubs, as JWS
keys           the keys that sign them
following      the trees, from line to line
checkpoints    signs heads beside the requests
retention      retires old records behind signed stubs
verification   walks everything and names what is broken
proofs         what somebody can check without the log
exports        the whole log as one file
head_file      the file that heads are appended to
in_force       puts on record which configuration and policies are in force
recorder       who records, from the configuration
events/        records as FHIR AuditEvents (IHE BALP): pure
feeds/         deliveries of records to others (IHE ATNA ITI-20)
index/         the entries by which records are found
signals/       rules that look for unusual access
"""
