"""What all tests share: the brokers, and a small artifact to run on them."""

pytest_plugins = ["tests.brokers.fixtures", "tests.deployment"]
