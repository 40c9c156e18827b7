"""The conformance report: what FAPI 2.0, OAuth 2.1 and RFC 9700 ask of a server, held against a configuration."""
