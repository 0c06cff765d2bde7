"""`cellstream evaluate`: how right an artifact is, how early, and how steady on the way."""
