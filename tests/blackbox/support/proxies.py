"""nginx and HAProxy in front of a server, with the files of `docs/proxies`."""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from support.server import PATIENCE_S, free_port, wait_until

FILES = Path(__file__).parents[3] / "docs" / "proxies"
# What belongs to root is not in everybody's PATH.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
# The proxies connect from here; everybody else in these tests from elsewhere.
ADDRESS = "127.0.0.1"
ABSENT = [name for name in ("nginx", "haproxy") if not shutil.which(name, path=PATH)]


class Proxy:
    """A process that runs a file of `docs/proxies`, in which ports and places are a test's.

    Clients take it for a server: for one with TLS, whose certificate `authority` has signed.
    """

    def __init__(self, directory, server, authority, edits=None):
        self.directory, self.server = Path(directory), server
        self.directory.mkdir()
        self.tls, self.certificate = authority, authority.sign("proxy")
        self.edits = edits or {}
        self.host, self.api_key = ADDRESS, server.api_key
        for attempt in range(3):
            self.ports = [free_port(), free_port()]
            self.ws_port = self.ports[0]
            self.spawn()
            wait_until(lambda: self.listens() or self.process.poll() is not None, "the proxy")
            if self.process.poll() is None:
                return
            # Somebody else may have taken a port.
            assert attempt < 2, self.log()

    def write(self, name, edits):
        """The file with its edits, each of something that is in it."""
        text = (FILES / name).read_text()
        for old, new in {**edits, **self.edits}.items():
            assert old in text, f"{old!r} is not in {name}"
            text = text.replace(old, str(new))
        path = self.directory / name
        path.write_text(text)
        return path

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
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.ws_port)) == 0

    def log(self):
        return (self.directory / "log").read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    @property
    def address(self):
        return f"{self.host}:{self.ws_port}"

    def url(self, path="/"):
        return f"https://{self.address}{path}"

    def ws(self, path="/ws"):
        return f"wss://{self.address}{path}"


class Nginx(Proxy):
    def spawn(self):
        # What it writes goes where a distribution has told it, unless it is told otherwise.
        temporary = [f"{kind}_temp_path {self.directory}/{kind};" for kind in TEMPORARY]
        path = self.write(
            "nginx.conf",
            {
                "http {": f"http {{ access_log off; {' '.join(temporary)}",
                "listen 443 ssl": f"listen {self.address} ssl",
                "server 127.0.0.1:8080": f"server {self.server.address}",
                "/etc/clarion/fullchain.pem": self.certificate.cert,
                "/etc/clarion/privkey.pem": self.certificate.key,
            },
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        mains = f"daemon off; user {user}; error_log stderr; pid {self.directory}/pid;"
        self.run("nginx", "-c", path, "-p", self.directory, "-e", "stderr", "-g", mains)


TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]


class Haproxy(Proxy):
    def spawn(self):
        both = self.directory / "both.pem"
        both.write_text("".join(file.read_text() for file in self.certificate.files))
        path = self.write(
            "haproxy.cfg",
            {
                "bind :443 ": f"bind {self.host}:{self.ports[0]} ",
                "bind :8443": f"bind {self.host}:{self.ports[1]}",
                "one 127.0.0.1:8080": f"one {self.server.address}",
                "one 127.0.0.1:8081": f"one {self.server.host}:{self.server.tls_port}",
                "/etc/clarion/both.pem": both,
                "inter 2s": "inter 50ms",
            },
        )
        self.run("haproxy", "-db", "-f", path)


class HaproxyByHeader(Haproxy):
    """Without the PROXY protocol."""

    def __init__(self, directory, server, authority, edits=None):
        super().__init__(directory, server, authority, {" send-proxy-v2": "", **(edits or {})})


class HaproxyPassing(Haproxy):
    """Where TLS ends in the server: the other port."""

    def spawn(self):
        self.ws_port = self.ports[1]
        super().spawn()
