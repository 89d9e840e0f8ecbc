"""Makes `python -m app` the command line."""

from app.serving.server import main

main()
