"""A TCP proxy in front of the PostgreSQL server, that can do to a connection what networks do."""

import contextlib
import socket
import threading
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Forwards to the server of *dsn*; `hang`, `drop` and `delay` hold for open connections and for new ones."""

    def __init__(self, dsn: str) -> None:
        self._parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        self._flows = threading.Event()
        self._flows.set()
        self._never = threading.Event()
        self._delay = 0.0
        self._dropping = False
        self._open: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        host, port = self._door.getsockname()
        return make_conninfo(
            **self._parts | {"host": host, "port": port, "sslmode": "disable", "gssencmode": "disable"}
        )

    def hang(self) -> None:
        """Forward nothing any more, and say nothing of it: the link is half-open."""
        self._flows.clear()

    def drop(self) -> None:
        """Close what is open, and whatever comes."""
        self._dropping = True
        self._close_all()

    def delay(self, seconds: float) -> None:
        self._delay = seconds

    def heal(self) -> None:
        """Be a good network again. What hung stays dead: its peers have forgotten each other."""
        self._close_all()
        self._dropping = False
        self._delay = 0.0
        self._flows.set()

    def close(self) -> None:
        self._door.close()
        self._close_all()
        self._flows.set()

    def _close_all(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                peer = self._open.pop()
                peer.shutdown(socket.SHUT_RDWR)
                peer.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the door was closed
            while True:
                client, _ = self._door.accept()
                self.accepted += 1
                if self._dropping:
                    client.close()
                    continue
                server = self._dial()
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _dial(self) -> socket.socket:
        host, port = self._parts.get("host", "localhost"), self._parts.get("port", "5432")
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(host) / f".s.PGSQL.{port}"))
            return server
        return socket.create_connection((host, int(port)))

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._never.wait(self._delay)
                self._flows.wait()
                target.sendall(data)
        for peer in (source, target):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
