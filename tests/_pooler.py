"""A pooler in transaction mode, as PgBouncer is one: each transaction may have another connection of the server.

It stands in for PgBouncer where that is not installed, and is worse on purpose: connections are lent in turn, so that
whoever relies on the session loses it at once, and nothing is reset between two clients. What PgBouncer refuses, it
refuses too. It knows of the protocol what it must: how messages are framed, and when a transaction is over.
"""

import contextlib
import itertools
import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_KNOWN = {
    "user",
    "database",
    "application_name",
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
}
_TOLD = ("server_version", "server_encoding", "client_encoding", "standard_conforming_strings", "integer_datetimes")
_PIDS = itertools.count(1_000_000)


class Pooler:
    """Lends *size* connections to the server of *dsn*; its own address is `dsn`."""

    def __init__(self, dsn: str, size: int = 3) -> None:
        self._parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        with psycopg.connect(dsn) as connection:
            self._told = {name: connection.info.parameter_status(name) or "" for name in _TOLD}
        self._free: queue.Queue[_Stream] = queue.Queue()
        self._servers = [self._log_in() for _ in range(size)]
        for server in self._servers:
            self._free.put(server)
        self._clients: list[_Stream] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        host, port = self._door.getsockname()
        rest = {"sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo(**self._parts | {"host": host, "port": port} | rest)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for stream in (*self._clients, *self._servers):
            stream.close()

    # -- the server's side ---------------------------------------------------------------------------------------------

    def _log_in(self) -> "_Stream":
        host, port = self._parts.get("host", "localhost"), self._parts.get("port", "5432")
        if host.startswith("/"):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(str(Path(host) / f".s.PGSQL.{port}"))
        else:
            peer = socket.create_connection((host, int(port)))
        words = {"user": self._parts.get("user", "postgres"), "database": self._parts.get("dbname", "postgres")}
        body = struct.pack("!i", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in words.items()) + b"\0"
        peer.sendall(struct.pack("!i", len(body) + 4) + body)
        stream = _Stream(peer)
        while (message := stream.receive())[0] != b"Z":
            assert message[0] != b"E", message
        return stream

    # -- the clients' side ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the door was closed
            while True:
                peer, _ = self._door.accept()
                stream = _Stream(peer)
                self._clients.append(stream)
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, client: "_Stream") -> None:
        with contextlib.suppress(OSError, EOFError):
            if self._greet(client):
                while True:
                    client.fill()
                    self._lend(client)
        client.close()

    def _greet(self, client: "_Stream") -> bool:
        """Let a client in, if it asks for nothing that a pooler cannot keep."""
        while True:
            content = client.start()
            (code,) = struct.unpack("!i", content[:4])
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            client.send_raw(b"N")
        if code == _CANCEL_REQUEST:
            return False
        words = content[4:].rstrip(b"\0").decode().split("\0")
        unknown = set(words[::2]) - _KNOWN
        if unknown:
            said = f"unsupported startup parameter: {unknown.pop()}"
            client.send(b"E", f"SFATAL\0VFATAL\0C08P01\0M{said}\0\0".encode())
            return False
        client.send(b"R", struct.pack("!i", 0))
        for name, value in self._told.items():
            client.send(b"S", f"{name}\0{value}\0".encode())
        client.send(b"K", struct.pack("!ii", next(_PIDS), 0))
        client.send(b"Z", b"I")
        return True

    def _lend(self, client: "_Stream") -> None:
        """Pass on what a client says and what it is answered, until a transaction is over."""
        server = self._free.get()
        asked = 0
        try:
            while True:
                for kind, content in client.messages():
                    if kind == b"X":
                        raise EOFError  # noqa: TRY301  as if it had just gone
                    asked += kind in (b"S", b"Q")  # Sync, Query: the server will say that it is ready
                    server.send(kind, content)
                for kind, content in server.messages():
                    asked -= kind == b"Z"
                    client.send(kind, content)
                    if kind == b"Z" and content == b"I" and not asked:
                        return
                for stream in select.select([client, server], [], [])[0]:
                    stream.fill()
        except BaseException:
            server.send(b"Q", b"ROLLBACK\0")  # the client left in the middle
            while server.receive() != (b"Z", b"I"):
                pass
            raise
        finally:
            self._free.put(server)


class _Stream:
    """Messages of the protocol on a socket: a letter, the length, what it says."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._buffer = b""

    def fileno(self) -> int:
        return self._peer.fileno()

    def fill(self) -> None:
        """Wait until there is more."""
        more = self._peer.recv(65536)
        if not more:
            raise EOFError
        self._buffer += more

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the messages that have come as a whole."""
        while len(self._buffer) >= 5 and len(self._buffer) > (length := struct.unpack("!i", self._buffer[1:5])[0]):
            kind, content = self._buffer[:1], self._buffer[5 : length + 1]
            self._buffer = self._buffer[length + 1 :]
            yield kind, content

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for a message."""
        while True:
            for message in self.messages():
                return message
            self.fill()

    def start(self) -> bytes:
        """Wait for the first message of a client, which has no letter."""
        while len(self._buffer) < 4 or len(self._buffer) < (length := struct.unpack("!i", self._buffer[:4])[0]):
            self.fill()
        content, self._buffer = self._buffer[4:length], self._buffer[length:]
        return content

    def send(self, kind: bytes, content: bytes) -> None:
        self.send_raw(kind + struct.pack("!i", len(content) + 4) + content)

    def send_raw(self, content: bytes) -> None:
        self._peer.sendall(content)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()
