"""Sockets, signals and uvicorn: how the API is served."""
