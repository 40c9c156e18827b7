"""The audit log: what happened, so kept that nobody changes it unnoticed."""
