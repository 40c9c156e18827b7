"""The peers: what others do of the same work, each with what it leaves out."""
