"""What the tracker is tried with: never imported by `app`."""
