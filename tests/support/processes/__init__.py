"""Processes, ports and temporary folders of tests, and the programs that they need."""
