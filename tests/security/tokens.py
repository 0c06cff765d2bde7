"""A token endpoint for tests: what an OpenID Connect provider answers to a client that asks for a token of its own."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


@contextmanager
def token_endpoint(client_id: str, secret: str, subject: str) -> Iterator[str]:
    """Serve tokens to who knows the secret, and yield the URL.

    They have no signature, as a broker takes them that was told to: it is the client's way to a token that is tested.
    """

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            login = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
            known = self.headers.get("Authorization") == f"Basic {login}" and form["grant_type"] == [
                "client_credentials"
            ]
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            now_s = int(time.time())
            claims = {"sub": subject, "iat": now_s, "exp": now_s + 600}
            token = {"access_token": f"{_part({'alg': 'none'})}.{_part(claims)}.", "token_type": "bearer"}
            self.wfile.write(json.dumps(token if known else {"error": "invalid_client"}).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/token"
        finally:
            server.shutdown()
            thread.join()


def _part(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
