"""What all tests share: the brokers, a small artifact to run on them, and how Hypothesis looks for examples."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.brokers.fixtures", "tests.deployment"]

# On a machine that does much else drawing examples takes long. That is no finding.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
