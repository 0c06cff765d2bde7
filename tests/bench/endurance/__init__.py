"""Hours at a steady load: `python -m tests.bench.endurance`."""
