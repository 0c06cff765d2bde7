# In place of prom/prometheus in the test of deploy/compose.yaml: Debian's binary, with that image's command and user.
# The context is the directory of the binary.
ARG BASE
FROM ${BASE}
RUN install --directory --owner nobody /prometheus
COPY prometheus /bin/prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
