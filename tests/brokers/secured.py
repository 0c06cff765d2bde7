"""One Apache Kafka that trusts nobody: TLS on every listener, SASL or client certificates, and ACLs.

The inter-broker and controller listeners use certificates too, so that nobody is a superuser without one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.brokers.certificates import CLIENT, SERVER, Authority
from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import START_S, KafkaProcess
from worker.kafka.rights import Right

ADMIN, ADMIN_PASSWORD = "admin", "admin-of-the-secured-broker"
_MODULE = "org.apache.kafka.common.security"


class SecuredKafka(KafkaProcess):
    """A broker with a listener for SASL over TLS and one for client certificates.

    Args:
        jars: see `KafkaProcess`.
        directory: see `KafkaProcess`; the certificates are in it, too.
        scram: name -> password of users of SCRAM-SHA-512.
        plain: name -> password of users of PLAIN.
    """

    def __init__(self, jars: Path, directory: Path, scram: dict[str, str], plain: dict[str, str]) -> None:
        super().__init__(jars, directory, heap_mb=512)
        self.authority = Authority(directory / "tls")
        certificate, key = self.authority.sign("broker", "/CN=localhost", SERVER)
        keystore = directory / "tls" / "broker.pem"
        keystore.write_text("".join(path.read_text() for path in (key, certificate, self.authority.certificate)))
        records = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in scram.items()]
        self.format_flags = tuple(flag for record in records for flag in ("--add-scram", record))
        known = "".join(f' user_{name}="{password}"' for name, password in {ADMIN: ADMIN_PASSWORD, **plain}.items())
        sasl = "listener.name.sasl_ssl"
        self.settings = {
            "listeners": f"SASL_SSL://{self.bootstrap_servers},MTLS://{self.mtls_servers},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"SASL_SSL://{self.bootstrap_servers},MTLS://{self.mtls_servers}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,MTLS:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "MTLS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            f"{sasl}.ssl.client.auth": "none",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            f"{sasl}.scram-sha-512.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
            f"{sasl}.plain.sasl.jaas.config": f"{_MODULE}.plain.PlainLoginModule required{known};",
            # Tokens without a signature: it is the client's way to a token that is tested, not Kafka's check of it.
            f"{sasl}.oauthbearer.sasl.jaas.config": f"{_MODULE}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:CN=localhost",
            "allow.everyone.if.no.acl.found": "false",
        }

    @property
    def mtls_servers(self) -> str:
        """Of the listener for client certificates."""
        return f"127.0.0.1:{self.behind_proxy}"

    @property
    def admin_conf(self) -> dict[str, str]:
        """Properties of a client that may do everything."""
        return self.sasl_conf("PLAIN", ADMIN, ADMIN_PASSWORD)

    def sasl_conf(self, mechanism: str, user: str, password: str) -> dict[str, str]:
        """Properties of a client with a password."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority.certificate),
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def mtls_conf(self, name: str) -> dict[str, str]:
        """Properties of a client with a certificate; its principal is `User:CN=NAME`."""
        certificate, key = self.authority.sign(name, f"/CN={name}", CLIENT)
        return {
            "bootstrap.servers": self.mtls_servers,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.certificate),
            "ssl.certificate.location": str(certificate),
            "ssl.key.location": str(key),
        }

    def cluster(self) -> TestCluster:
        """For what tests do as the one who may do everything."""
        return TestCluster("kafka", self.bootstrap_servers, self.admin_conf)

    def allow(self, principal: str, rights: Iterable[Right]) -> None:
        """Give a principal rights."""
        _results(self._admin().create_acls([_binding(principal, right) for right in rights]))

    def deny(self, principal: str, right: Right | None = None) -> None:
        """Take a right away from a principal, or all of them."""
        asked = AclBindingFilter(
            ResourceType.ANY if right is None else _resource(right),
            None if right is None else right.name,
            ResourcePatternType.ANY,
            principal,
            None,
            AclOperation.ANY if right is None else AclOperation[right.operation],
            AclPermissionType.ANY,
        )
        _results(self._admin().delete_acls([asked]))

    def _admin(self) -> AdminClient:
        self._kept = AdminClient({**self.admin_conf, "log_level": "0"})  # a future ends with its client
        return self._kept

    def _wait_until_ready(self, deadline: float) -> None:
        admin = self._admin()
        while True:
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                pass  # not listening yet
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the secured broker did not come up within {START_S} s:\n{self.process.tail()}")
            time.sleep(0.1)


def _binding(principal: str, right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    operation = AclOperation[right.operation]
    return AclBinding(_resource(right), right.name, pattern, principal, "*", operation, AclPermissionType.ALLOW)


def _resource(right: Right) -> ResourceType:
    return ResourceType[right.resource.upper().replace("-", "_")]


def _results(futures: dict[object, object]) -> None:
    for future in futures.values():
        future.result(30)  # type: ignore[attr-defined]
