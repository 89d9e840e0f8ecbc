"""Tests of what stands between the endpoints, GitHub and PostgreSQL."""
