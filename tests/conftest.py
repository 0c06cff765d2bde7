"""What all tests share: the brokers."""

pytest_plugins = ["tests.brokers.fixtures"]
