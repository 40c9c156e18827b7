"""The demonstration: sample upstreams, sample people, one full flow."""
