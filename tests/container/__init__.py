"""Tests of the image and docker-compose.yml on a real engine: `make test-container` runs them."""
