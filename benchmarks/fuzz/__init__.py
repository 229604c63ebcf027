"""A structure-aware fuzzer of everything that reads what nobody vouches for: `python -m benchmarks.fuzz --help`."""
