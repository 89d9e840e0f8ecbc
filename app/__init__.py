"""A tracker of GitHub repositories: four REST endpoints on FastAPI and PostgreSQL."""

from pathlib import Path

__version__ = "1.0.0"

# The folder of the project: pyproject.toml, migrations and .env lie there.
PROJECT_DIR = Path(__file__).resolve().parent.parent
