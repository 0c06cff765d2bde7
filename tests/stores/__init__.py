"""Checkpoints in object stores: laws against a faulty one, a real server, a proxy that does harm, a whole worker."""
