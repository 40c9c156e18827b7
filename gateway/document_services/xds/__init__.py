"""IHE XDS.b over SOAP 1.2: a registry that finds documents, repositories that hold them, and who asks (IHE XUA)."""
