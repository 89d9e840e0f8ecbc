"""The stand-in for GitHub: one for the tests, the benchmark and the demo."""
