"""The laws of cellstream, and what proves them."""
