"""Sending repos to the Hub."""
