"""What a decision needs beside its request, looked up by the gateway itself: facts, consents, labels."""
