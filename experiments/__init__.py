"""What a person runs in a checkout: the commands, the studies behind docs/ and results/, and benchmarks."""
