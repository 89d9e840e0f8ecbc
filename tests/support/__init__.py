"""What the tests stand on: stand-ins for the world outside."""
