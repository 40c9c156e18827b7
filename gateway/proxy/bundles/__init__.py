"""Bundles of requests: batch, transaction, and what comes with a write by X-Provenance."""
