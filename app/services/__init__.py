"""What the endpoints do, and how GitHub is asked."""
