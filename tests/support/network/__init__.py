"""Links that fail, and certificates for those that do not trust each other."""
