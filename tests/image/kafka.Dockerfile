# In place of apache/kafka in the test of deploy/compose.yaml: the jars of the same version, on the base's own JRE.
# The same class as in that image makes settings of variables and formats the log. The context is the directory of jars.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends default-jre-headless && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 kafka \
    && install --directory --owner kafka /opt/kafka/config \
    && install --directory /opt/kafka/bin /etc/kafka/docker /mnt/shared/config \
    && touch /etc/kafka/docker/server.properties /etc/kafka/docker/log4j2.yaml /etc/kafka/docker/tools-log4j2.yaml \
    && printf '#!/bin/sh\nexec java -cp "/opt/kafka/libs/*" org.apache.kafka.tools.BrokerApiVersionsCommand "$@"\n' \
        > /opt/kafka/bin/kafka-broker-api-versions.sh \
    && printf '#!/bin/sh -e\nexport CLASSPATH="/opt/kafka/libs/*"\n\
java kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \
--mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config\n\
exec java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka /opt/kafka/config/server.properties\n' \
        > /opt/kafka/bin/run \
    && chmod 755 /opt/kafka/bin/*
COPY *.jar /opt/kafka/libs/
USER kafka
ENV CLUSTER_ID=rAv055VWT7mwqyr-Ei_92w
CMD ["/opt/kafka/bin/run"]
