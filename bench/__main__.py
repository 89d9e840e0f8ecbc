"""Makes `python -m bench` the command."""

from bench.run import main

main()
