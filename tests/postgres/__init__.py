"""Mirrors `app/postgres`."""
