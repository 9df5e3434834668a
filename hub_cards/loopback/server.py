"""The HTTP side of the loopback Hub: the server, and answers as bytes, whole or broken off."""

import json
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hub_cards.loopback.protocol import Answer, parts_of


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no error."""


def handler_of(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in one packet: in two, each waits for the other side's delayed acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            answer(self)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def send(handler: BaseHTTPRequestHandler, answer: Answer, *, truncated: bool = False) -> None:
    """Send an answer, or half of it."""
    data = b""
    if answer.file is None:
        content = answer.json
        data = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    size = len(data) if answer.file is None else answer.last - answer.first
    try:
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(size))
        if truncated and (handler.command == "HEAD" or size == 0):
            handler.flush_headers()  # without the empty line that ends them
            reset(handler)
            return
        handler.end_headers()
        left = size // 2 if truncated else size
        if handler.command != "HEAD":
            for part in [data] if answer.file is None else parts_of(answer):
                handler.wfile.write(part[:left])
                left -= min(left, len(part))
        handler.wfile.flush()
    except ConnectionError:
        handler.close_connection = True
        return
    if truncated:
        reset(handler)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection off."""
    handler.close_connection = True
    try:
        handler.wfile.flush()
        # With no time to linger, closing sends a reset.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
