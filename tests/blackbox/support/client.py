"""A client on the `websockets` library: a WebSocket endpoint that others wrote."""

from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.session import PATIENCE_S, SUBPROTOCOL, Session
from support.tls import context


class Client(Session):
    """A connection, with `$hello` said when it is made, unless told otherwise."""

    def __init__(
        self,
        server,
        subprotocol=SUBPROTOCOL,
        path="/ws",
        say_hello=True,
        headers=None,
        source=None,
        **hello,
    ):
        super().__init__()
        # It wants to be a context manager; a test has several at once and ends them by name.
        self.stack = ExitStack()
        connection = connect(
            server.ws(path),
            subprotocols=[subprotocol] if subprotocol else None,
            additional_headers=headers,
            compression=None,
            max_size=None,
            # It reads everything at once: a slow reader is one that a test wants to be slow.
            max_queue=None,
            open_timeout=PATIENCE_S,
            proxy=None,
            ssl=context(server.tls) if server.tls else None,
            source_address=(source, 0) if source else None,
        )
        self.socket = self.stack.enter_context(connection)
        if subprotocol and say_hello:
            self.hello(**hello)

    def send_text(self, text):
        self.socket.send(text)

    def read_text(self, timeout):
        text = self.socket.recv(timeout=timeout)
        assert isinstance(text, str), "a binary message came"
        return text

    def closed(self, timeout=PATIENCE_S):
        """Reads up to the end of the connection: the close code and reason."""
        try:
            while True:
                self.inbox.append(self._read(timeout))
        except ConnectionClosed as error:
            frame, closed = error.rcvd, error
        assert frame is not None, f"no close frame: {closed}"
        return frame.code, frame.reason

    def close(self, code=1000):
        self.socket.close(code)

    def drop(self):
        """Ends the connection as a lost network would: without a close frame."""
        self.socket.socket.shutdown(2)
        # Whoever reads must have seen that: over TLS it has an alert to write, and the descriptor
        # may be another connection's as soon as it is closed.
        self.socket.recv_events_thread.join(PATIENCE_S)
        self.socket.close_socket()
