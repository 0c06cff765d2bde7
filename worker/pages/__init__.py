"""What a worker shows to those who watch it: /live, /ready and /metrics.

health  what they say
server  a small HTTP server that strangers may talk to
guard   who may read
probe   asks /live, for the image's HEALTHCHECK
"""
