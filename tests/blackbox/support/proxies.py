"""nginx and HAProxy in front of a server, as `docs/proxies` sets them up."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from support.server import PATIENCE_S, free_port, wait_until

CONFIGURATIONS = Path(__file__).parents[3] / "docs" / "proxies"
# Where they are for root, which others' PATH leaves out.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


def missing():
    """Why there can be no proxies here; None if there can."""
    absent = [name for name in ("nginx", "haproxy") if shutil.which(name, path=PATH) is None]
    return f"{' and '.join(absent)} not installed, see scripts/bootstrap" if absent else None


class Through:
    """A way to a server that leads through a proxy; clients take it for a server."""

    def __init__(self, port, certificate):
        self.host, self.ws_port, self.tls = "127.0.0.1", port, certificate

    @property
    def address(self):
        return f"{self.host}:{self.ws_port}"

    def ws(self, path="/ws"):
        return f"wss://{self.address}{path}"


class Proxy:
    """A process that runs with a file of `docs/proxies`, in which only places and ports are ours."""

    def __init__(self, directory, count):
        self.directory = Path(directory)
        self.directory.mkdir()
        for attempt in range(3):
            self.ports = [free_port() for _ in range(count)]
            self.spawn()
            wait_until(lambda: self.listens() or self.process.poll() is not None, "the proxy")
            if self.process.poll() is None:
                return
            # Somebody else may have taken a port between our choice and its start.
            assert attempt < 2, self.log()

    def write(self, name, edits):
        text = (CONFIGURATIONS / name).read_text()
        for old, new in edits.items():
            assert old in text, f"{old!r} is not in {name}"
            text = text.replace(old, new)
        config = self.directory / name
        config.write_text(text)
        return config

    def run(self, *command):
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def listens(self):
        for port in self.ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True

    def log(self):
        return (self.directory / "log").read_text()

    def stop(self):
        # In order, or nginx leaves its own children behind.
        self.process.terminate()
        self.process.wait(PATIENCE_S)


class Nginx(Proxy):
    def __init__(self, directory, server, certificate):
        self.server, self.certificate = server, certificate
        super().__init__(directory, 1)
        self.way = Through(self.ports[0], certificate)

    def spawn(self):
        cert, key = self.certificate.files
        # What it writes to belongs elsewhere when a distribution starts it.
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        places = "".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
        config = self.write(
            "nginx.conf",
            {
                "http {": f"http {{ access_log off; {places}",
                "listen 443 ssl": f"listen 127.0.0.1:{self.ports[0]} ssl",
                "127.0.0.1:8080": self.server.address,
                "/etc/clarion/fullchain.pem": str(cert),
                "/etc/clarion/privkey.pem": str(key),
            },
        )
        globals_ = f"daemon off; error_log stderr; pid {self.directory}/pid; worker_processes 1;"
        self.run("nginx", "-c", str(config), "-p", str(self.directory), "-g", globals_)


class Haproxy(Proxy):
    def __init__(self, directory, server, certificate, version):
        self.server, self.certificate, self.version = server, certificate, version
        super().__init__(directory, 2)
        # Where TLS ends in the proxy, and where in the server.
        self.ends = Through(self.ports[0], certificate)
        self.passes = Through(self.ports[1], server.tls)

    def spawn(self):
        both = self.directory / "both.pem"
        both.write_text("".join(file.read_text() for file in self.certificate.files))
        config = self.write(
            "haproxy.cfg",
            {
                "bind :443 ": f"bind 127.0.0.1:{self.ports[0]} ",
                "bind :8443": f"bind 127.0.0.1:{self.ports[1]}",
                "one 127.0.0.1:8080": f"one {self.server.address}",
                "one 127.0.0.1:8081": f"one 127.0.0.1:{self.server.tls_port}",
                "/etc/clarion/both.pem": str(both),
                "send-proxy-v2": {1: "send-proxy", 2: "send-proxy-v2"}[self.version],
                "inter 2s": "inter 50ms",
            },
        )
        self.run("haproxy", "-db", "-f", str(config))
