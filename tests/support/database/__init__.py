"""A PostgreSQL that tests can kill, and what they put into a database."""
