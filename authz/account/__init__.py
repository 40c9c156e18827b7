"""The pages of a person under /account: apps, consents, who saw the record, and all of it to take along."""
