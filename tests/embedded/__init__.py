"""Tests of app/embedded, with real processes that are really killed."""
