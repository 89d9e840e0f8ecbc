"""The error of this package, which imports nothing of the project."""


class EmbeddedPostgresError(Exception):
    """PostgreSQL cannot be started; the message says why and what to do."""
