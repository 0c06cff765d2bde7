"""Brokers that tests run on: a real Apache Kafka, taken in an order of choice, and the embedded one."""
