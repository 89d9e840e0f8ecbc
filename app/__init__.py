"""A tracker of GitHub repositories: four REST endpoints on FastAPI and PostgreSQL."""

__version__ = "1.0.0"
