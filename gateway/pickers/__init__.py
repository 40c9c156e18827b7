"""Finding patients and visits for the pages of the authorization server, as the person at them may."""
