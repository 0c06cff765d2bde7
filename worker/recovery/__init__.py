"""How a partition's state comes back, and what is kept for that.

start      where a partition begins: a pure function of offsets, checkpoints and log
note       what is committed beside each offset
restoring  which partitions wait for their state
keeper   the states in memory and their checkpoints
loading    a checkpoint that is read beside the loop
timetable  when the next one is due
"""
