"""What a broker that refuses a client means, in words, with what to write instead.

Wrong credentials are never fatal to librdkafka: it tries for ever, and only its error callback hears why. Some of them
come without an error code of their own, as a connection that breaks; those are known by librdkafka's words.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError

from worker.kafka.rights import lacking

CREDENTIAL_ERRORS = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_RESOURCES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
}
ACCESS_ERRORS = tuple(_RESOURCES)

_V = "CELLSTREAM_KAFKA__"
_CLIENT_CERTIFICATE = (
    "this listener wants a client certificate that it trusts",
    f"set {_V}SSL_CERTIFICATE_LOCATION and {_V}SSL_KEY_LOCATION to this client's certificate and key, signed by an "
    "authority that the broker knows",
)
# A part of librdkafka's message -> what was wrong, and what to write instead. The first that is found counts.
_MEANINGS: dict[str, tuple[str, str]] = {
    "hostname mismatch": (
        "the broker's certificate is for another host name",
        "write bootstrap_servers with a name that is in the certificate, and let the broker advertise it",
    ),
    "ip address mismatch": (
        "the broker's certificate is for another address",
        "write bootstrap_servers with a name that is in the certificate, and let the broker advertise it",
    ),
    "certificate has expired": ("the broker's certificate has expired", "renew it on the broker"),
    "certificate verify failed": (
        "the broker's certificate is not signed by an authority that this client trusts",
        f"set {_V}SSL_CA_LOCATION to a file with the certificate of the authority that signed it",
    ),
    "certificate could not be verified": (
        "the broker's certificate is not signed by an authority that this client trusts",
        f"set {_V}SSL_CA_LOCATION to a file with the certificate of the authority that signed it",
    ),
    "alert bad certificate": _CLIENT_CERTIFICATE,
    "certificate required": _CLIENT_CERTIFICATE,
    "alert unknown ca": _CLIENT_CERTIFICATE,
    "alert certificate unknown": _CLIENT_CERTIFICATE,
    "unsupported sasl mechanism": (
        "the broker does not offer this SASL mechanism",
        f"set {_V}SASL_MECHANISM to one that it names",
    ),
    "plaintext broker listener": (
        "the listener does not speak TLS",
        f"set {_V}SECURITY_PROTOCOL to SASL_PLAINTEXT or PLAINTEXT, or take the port of the TLS listener",
    ),
    "incorrect security.protocol": (
        "the listener expects TLS or a login",
        f"set {_V}SECURITY_PROTOCOL to SASL_SSL, or to SSL for client certificates",
    ),
    "oauthbearer": (
        "no valid token could be had",
        f"check {_V}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, {_V}SASL_OAUTHBEARER_CLIENT_ID, "
        f"{_V}SASL_OAUTHBEARER_CLIENT_SECRET_FILE and {_V}SASL_OAUTHBEARER_SCOPE",
    ),
    "invalid credentials": ("", ""),
    "invalid username or password": ("", ""),
}
_LOGIN = ("wrong user name or password", f"check {_V}SASL_USERNAME and {_V}SASL_PASSWORD_FILE")


def missing_right(error: KafkaError, rights: Mapping[str, str]) -> str:
    """Name the right that a broker misses, and how it is granted.

    Args:
        error: one of `ACCESS_ERRORS`.
        rights: what the caller needs, by resource: topic, group, transactional-id.
    """
    resource = _RESOURCES[error.code()]
    return f"{lacking([rights.get(resource, f'a right on the {resource}')])} ({error.str()})"


def refusal(error: KafkaError) -> str | None:
    """What a refused client did wrong, what to write instead, and the client's own words; None for other errors."""
    said = error.str()
    lower = said.lower()
    for part, meaning in _MEANINGS.items():
        if part in lower:
            what, remedy = meaning if meaning[0] else _LOGIN
            return f"the broker refuses this client: {what}; {remedy} ({said})"
    if error.code() == KafkaError._AUTHENTICATION:
        return f"the broker refuses this client: {_LOGIN[0]}; {_LOGIN[1]} ({said})"
    if error.code() == KafkaError._SSL:
        what = "TLS could not be agreed on"
        return f"the broker refuses this client: {what}; check the properties ssl.* and security.protocol ({said})"
    return None
