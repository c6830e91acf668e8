"""One `clarion serve` process with a data directory and a port of its own."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

BINARY = Path(
    os.environ.get("CLARION_BIN", Path(__file__).parents[3] / "target" / "debug" / "clarion")
)
API_KEY = "blackbox-0123456789abcdef"
# How long anything may take before it counts as hanging. Generous: machines are busy.
PATIENCE_S = 20


class Server:
    """Starts when told to, is ready when `start` returns, and must end cleanly.

    `settings` are those of the configuration file, as nested dictionaries. Two workers, so that
    every test crosses from one to another now and then. With a certificate in `tls`, WebSocket
    clients come over TLS, and everything else still without.
    """

    def __init__(
        self,
        directory,
        settings=None,
        args=(),
        env=None,
        echo=False,
        tls=None,
        wrapper=(),
        source=None,
    ):
        self.directory = Path(directory)
        self.settings = settings or {}
        self.extra = [*args, *(["--echo"] if echo else [])]
        self.env = env or {}
        # What the binary's command comes after; its process has to stay the one that was started.
        self.wrapper = wrapper
        self.process = None
        self.host = "127.0.0.1"
        self.port = None
        self.tls = tls
        self.tls_port = None
        # Where requests come from, if not from the server's own address.
        self.source = source
        self.api_key = API_KEY
        # What the process wrote to its standard error, over all its starts.
        self.log_path = self.directory / "server.log"

    # Life

    def start(self):
        for attempt in range(3):
            self.port = self.port or free_port()
            self.tls_port = self.tls_port or free_port()
            self.spawn()
            try:
                self.wait_ready()
            except PortTaken:
                if attempt == 2:
                    raise
                self.port = self.tls_port = None
                continue
            return self
        return None

    def spawn(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "clarion.toml"
        config.write_text(toml(self.settings))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, BINARY, "serve", *self.command_line(config)],
                env=environment({"CLARION_API_KEY": self.api_key, **self.env}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command_line(self, config):
        return [
            *("--config", str(config)),
            *("--listen", f"{self.host}:{self.port}"),
            *("--data-dir", str(self.directory / "data")),
            *("--workers", "2"),
            *(self.tls_arguments() if self.tls else ()),
            *self.extra,
        ]

    def tls_arguments(self):
        cert, key = self.tls.files
        where = ("--tls-listen", f"{self.host}:{self.tls_port}")
        return *where, "--tls-cert", str(cert), "--tls-key", str(key)

    def wait_ready(self):
        """Returns when `/readyz` says so."""

        def ready():
            if self.process.poll() is not None:
                log = self.log()
                if "in use" in log:
                    raise PortTaken(log)
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{log}")
            with contextlib.suppress(OSError):
                return self.get("/readyz")[0] == 200
            return False

        wait_until(ready, "the server to be ready")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=PATIENCE_S):
        """The exit status, when the process has ended by itself."""
        return self.process.wait(timeout)

    def stop(self):
        """Ends the server in order. It has to exit with 0 and without having panicked."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait()
        self.process = None
        errors = [line for line in self.log().splitlines() if is_error(line)]
        assert not errors, "the server logged errors:\n" + "\n".join(errors)
        assert status == 0, f"the server exited with {status}"

    def kill(self):
        """Ends the server as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    # Looking at it

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def printed_key(self):
        """The key that a first start made, which may be printed later than it is ready."""
        [key] = wait_until(lambda: re.findall(r"API key +(clk_\S+)\s", self.log()), "the key")
        return key

    def log_lines(self):
        """The log as JSON objects."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def url(self, path="/"):
        return f"http://{self.address}{path}"

    @property
    def ws_port(self):
        return self.tls_port if self.tls else self.port

    def ws(self, path="/ws"):
        return f"{'wss' if self.tls else 'ws'}://{self.host}:{self.ws_port}{path}"

    def get(self, path, key=None):
        """One HTTP GET: status and body."""
        return self.request("GET", path, key=key)

    def api(self, path, body=None):
        """A call of the HTTP API that has to succeed: its answer."""
        method = "GET" if body is None else "POST"
        status, answer = self.request(method, path, key=self.api_key, body=body)
        assert status == 200, (status, answer)
        return json.loads(answer)

    def request(self, method, path, key=None, body=None):
        status, _, answer = self.exchange(method, path, key, body)
        return status, answer

    def exchange(self, method, path, key=None, body=None, headers=None):
        """Status, headers by their names in lower case, and body."""
        source = (self.source, 0) if self.source else None
        connection = http.client.HTTPConnection(
            self.host, self.port, timeout=PATIENCE_S, source_address=source
        )
        headers = dict(headers or {})
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if body is not None:
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read().decode()
        finally:
            connection.close()

    def stats(self):
        return self.api("/stats")

    def metric(self, name):
        """The value of one metric, labels included in its name; 0 if it is not there yet."""
        _, text = self.get("/metrics", key=self.api_key)
        lines = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(lines[0].split()[-1]) if lines else 0


class PortTaken(Exception):
    """Somebody else took the port between our choice and the server's start."""


def run(*args, env=None):
    """Runs the binary to its end: exit status, standard output, standard error."""
    done = subprocess.run(
        [BINARY, *map(str, args)],
        env=environment(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def environment(extra):
    """This process's environment without settings of the server, and `extra`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLARION_")}
    return {**clean, **extra}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, timeout=PATIENCE_S):
    """Returns what `condition` gives as soon as that is true."""
    deadline = time.monotonic() + timeout
    pause_s = 0.002
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)
    raise AssertionError(f"waited {timeout} s in vain for {what}")


def is_error(line):
    """A line that a healthy server never writes: one of level error, or a panic."""
    try:
        return json.loads(line).get("level") == "ERROR"
    except (ValueError, AttributeError):
        return "panicked at" in line


def toml(settings, prefix=""):
    """`settings` as TOML: tables, arrays of tables, and values that JSON writes alike."""
    values, tables = [], []
    for name, value in settings.items():
        if isinstance(value, dict):
            tables.append(f"[{prefix}{name}]\n{toml(value, f'{prefix}{name}.')}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"[[{prefix}{name}]]\n{toml(item)}" for item in value]
        else:
            values.append(f"{name} = {json.dumps(value)}\n")
    return "".join(values + tables)
