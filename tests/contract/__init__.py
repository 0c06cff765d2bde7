"""The contracts of records and delivery, as a user of the topics sees them, on both brokers."""
