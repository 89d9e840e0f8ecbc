"""Lets `uvicorn main:app` find the application from the project's folder."""

from app.main import app

__all__ = ["app"]
