"""Who is calling, and what was granted: the authorization server."""
