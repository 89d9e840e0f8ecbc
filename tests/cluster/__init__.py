"""Tests against a cluster of PostgreSQL: `make test-cluster` runs them, `make test` does not."""
