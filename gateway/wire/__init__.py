"""HTTP/1.1 on the wire, in protocols of our own: requests in and answers out, and on the other side to the store."""
