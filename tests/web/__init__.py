"""Mirrors `app/web`."""
