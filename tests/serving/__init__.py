"""Mirrors `app/serving`."""
