"""Who may do what, and what nobody may see: a secured broker, secrets, the pages, and input that nobody trusts."""
