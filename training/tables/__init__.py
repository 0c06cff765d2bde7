"""Tables of users -> labelled sequences: reading, checking, grouping, and a report of what is in them."""
