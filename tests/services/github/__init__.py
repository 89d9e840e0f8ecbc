"""Mirrors `app/services/github`."""
