"""What a worker remembers of a partition, and the bookkeeping of its streams.

partition      the states and counts of all streams, one row each
slab         the memory that they are in
frozen       the same as it was at one moment, for the thread that writes it
streams        stream IDs to rows, new streams, and what happens when there is no room
sequences      which sequence, which timestep
order          duplicates, late samples and gaps, by the producers' own count
last_values    missing numbers become the last ones
split_streams  streams that come in several partitions
"""
