"""Where a browser app is served from: a few files and its settings, at an origin of its own on the loopback address."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript"}


class AppServer:
    """Serves files by path. settings is what /settings.js sets window.SETTINGS to; it may change at any time."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        settings = self.settings = dict[str, Any]()

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == "/settings.js":
                    kind, body = ".js", f"window.SETTINGS = {json.dumps(settings)}".encode()
                elif path in files:
                    kind, body = files[path].suffix, files[path].read_bytes()
                else:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", _TYPES[kind])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="app", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
