"""One file a door of the authorization server."""
