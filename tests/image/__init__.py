"""The image: built on a base that is made here, run without rights, stopped, started again; and the compose file."""
