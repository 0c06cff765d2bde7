"""Workers that are killed, stopped and frozen on a real broker, and the checker that reads what they left behind."""
