"""Whether the worker of a container is live: what the image's HEALTHCHECK runs.

    python -m worker.pages.probe      exit code 0: /live answered 200; 1: it did not

It runs every few seconds, so it imports nothing of the worker's. It goes by variables alone, as the image does.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_S = 4.0
ANY_ADDRESS = ("", "0.0.0.0", "::")


def live(environment: Mapping[str, str]) -> bool:
    """Ask /live where the worker's own variables say that it is.

    Who answers is in the same container, so its certificate is not verified. A worker with `metrics_tls_client_ca`
    answers nobody who shows no certificate, and this shows none: such a container needs a check of its own.

    Args:
        environment: with the `CELLSTREAM_METRICS_*` variables that are set.
    """
    host = environment.get("CELLSTREAM_METRICS_HOST", "")
    host = "localhost" if host in ANY_ADDRESS else host
    port = int(environment.get("CELLSTREAM_METRICS_PORT", "9108"))
    connection: http.client.HTTPConnection
    if "CELLSTREAM_METRICS_TLS_CERTIFICATE" in environment:
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=unverified)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException) as fault:
        print(f"{host}:{port}: {fault}", file=sys.stderr)
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not live(os.environ))
