"""What others would take for the same work: the same model, topics, events and commit interval, in their frameworks.

    make peers              builds them into .cache/peers: Java by Maven, Python frameworks in environments of their own
    make bench ARGS='--row peers'

Each answers five hundred samples first, which are compared with cellstream's model, before any of its laps is timed.
"""
