"""Makes `python -m lab.bench` the command."""

from lab.bench.run import main

main()
