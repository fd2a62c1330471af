"""The API and its callers, and the servers around it."""
