"""From a data set to an artifact that the worker can stream."""
