"""A cluster of PostgreSQL on one machine, to try and to test the service on; not the product."""
