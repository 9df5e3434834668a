"""Kinds of problems, each in a module by its subject; the ways of asking are in `forms/`."""
