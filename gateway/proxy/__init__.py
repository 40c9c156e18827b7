"""The passage of a request from first byte to last."""
