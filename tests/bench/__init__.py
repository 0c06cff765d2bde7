"""The bench on the broker that the tests would take: `python -m tests.bench`."""
