"""Tests of what the project is tried with."""
