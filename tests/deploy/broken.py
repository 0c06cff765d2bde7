"""Resources with one mistake each, which Kubernetes has to refuse: a check that refuses none checks nothing."""

from __future__ import annotations

import copy
from typing import Any

from tests.deploy.manifests import Resource, build

# Kind, path in its `spec`, and the wrong value.
BROKEN_CUSTOM = [
    ("ScaledObject", "maxReplicaCount", "many"),
    ("ScaledObject", "triggers.0.meta", {}),
    ("ScaledObject", "triggers.0.metadata.lagThreshold", 100_000),  # KEDA takes text only
    ("TriggerAuthentication", "secretTargetRef.0.secret", "cellstream"),
    ("ServiceMonitor", "endpoints.0.intervall", "15s"),
    ("ServiceMonitor", "endpoints.0.interval", "a quarter of a minute"),
    ("PrometheusRule", "groups.1.rules.0.expression", "up == 0"),
    ("PrometheusRule", "groups.1.rules.0.for", "two minutes"),
    ("KafkaTopic", "partitions", 0),
    ("KafkaTopic", "retention", "7d"),
    ("KafkaUser", "authorization.acls.0.operations", ["Reed"]),
    ("KafkaUser", "authentication.type", "scram-sha-1024"),
]

BROKEN = [
    ("StatefulSet", "template.spec.containers.0.readynessProbe", {}),
    ("StatefulSet", "template.spec.terminationGracePeriod", 30),
    ("StatefulSet", "template.spec.containers.0.resources.limits.memory", "2 GB"),
    ("StatefulSet", "podManagementPolicy", "Together"),
    ("StatefulSet", "selector.matchLabels", {"app": "cellstream"}),
    ("PodDisruptionBudget", "minAvailable", 1),  # beside maxUnavailable
    ("NetworkPolicy", "egress.1.ports.0.endPort", 9000),  # before the first port
    ("PersistentVolumeClaim", "accessModes", ["ReadWriteAnywhere"]),
    ("Service", "ports.0.targetPort", "a-name-longer-than-ports-have"),
]


def broken(kind: str, path: str, value: object) -> Resource:
    """The first resource of a kind, with one value in its `spec` replaced."""
    resource = copy.deepcopy(next(one for one in build("overlays/all") if one["kind"] == kind))
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = resource["spec"]
    for part in parents:
        place = place[part]
    place[last] = value
    return resource
