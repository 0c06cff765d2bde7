"""The image: built on a base that is made here, run without rights, stopped, and started again on its volume."""
