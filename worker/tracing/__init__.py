"""Traces: which one a record belongs to, and what its outputs carry on.

context  W3C Trace Context in headers
spans    a span for each sampled record, by OTLP
"""
