"""HTTP/1.1 on the wire, in protocols of our own: bytes in, an HttpRequest; an Answer, bytes out."""
