"""The benchmark: this service beside its peers, on one PostgreSQL, in one run."""
