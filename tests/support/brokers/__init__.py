"""Brokers that tests start, clients that speak to them, and their accounts."""
