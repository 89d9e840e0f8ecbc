"""What takes minutes: floods, faults and strangers, for `make test-faults`."""
