"""A small Kafka in memory, a simulated clock and store, the real worker above them: for what real time cannot reach.

What is simulated is the client: classes that look like confluent_kafka's Consumer, Producer and AdminClient, over a
broker in memory. Everything above is the worker's own code. A schedule is a list of steps, made from a seed: one runs
in milliseconds, and a failing one is shrunk and replayed step by step.

    log.py, groups.py, transactions.py, cluster.py    the broker and the clock
    host.py, consumer.py, producer.py, admin.py       the client, held against the real one by programs.py
    store.py, worker_process.py, patches.py           the checkpoint store, and the worker as a process
    plan.py, world.py, laws.py, search.py             schedules, their run, what must hold, and the shortest failing one
"""
