"""Certificates for the tests, made with OpenSSL, and TLS clients."""

import select
import socket
import ssl
import subprocess
import threading
from pathlib import Path

SUBJECT = ["-subj", "/CN=localhost"]
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificate:
    """A certificate that signs itself, and its key: two files in `directory`."""

    def __init__(self, directory, name="cert", new_key=NEW_KEY, subject=SUBJECT):
        self.cert = Path(directory) / f"{name}.pem"
        self.key = Path(directory) / f"{name}.key"
        self.cert.parent.mkdir(parents=True, exist_ok=True)
        files = ["-keyout", self.key, "-out", self.cert]
        openssl("req", "-x509", *new_key, *files, "-days", "30", *subject, "-addext", NAMES)

    @property
    def files(self):
        return self.cert, self.key

    @property
    def der(self):
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())

    def expire(self):
        """Replaces the certificate by one of the same key whose time is over."""
        home = self.cert.parent / "ca"
        home.mkdir()
        (home / "index").touch()
        (home / "serial").write_text("01")
        (home / "ca.conf").write_text(
            f"[ca]\ndefault_ca = a\n[a]\ndatabase = {home}/index\nserial = {home}/serial\n"
            f"new_certs_dir = {home}\ndefault_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n"
        )
        openssl("req", "-new", "-key", self.key, "-out", home / "csr", *SUBJECT)
        time = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        files = ["-in", home / "csr", "-out", self.cert, "-keyfile", self.key]
        # Without an extension it would be of version 1, which nobody takes.
        (home / "ext").write_text(NAMES)
        how = ["-batch", "-selfsign", "-notext", "-config", home / "ca.conf"]
        openssl("ca", *how, "-extfile", home / "ext", *time, *files)


class Authority(Certificate):
    """An authority, and with `sign` certificates of it."""

    def __init__(self, directory, name="authority"):
        super().__init__(directory, name, subject=["-subj", "/CN=The authority of the tests"])

    def sign(self, name, names=NAMES):
        return Signed(self, name, names)


class Signed(Certificate):
    """A certificate of an authority's, with its key, beside the authority's own files."""

    def __init__(self, authority, name, names):
        home = authority.cert.parent
        self.cert, self.key = home / f"{name}.pem", home / f"{name}.key"
        by = ["-CA", authority.cert, "-CAkey", authority.key]
        files = ["-keyout", self.key, "-out", self.cert]
        extensions = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"]
        openssl("req", "-x509", *NEW_KEY, *files, *by, "-days", "30", *SUBJECT, *extensions)


def openssl(*args):
    subprocess.run(["openssl", *args], capture_output=True, check=True, timeout=60)


def context(certificate, **versions):
    """What a client trusts: this certificate and no other."""
    trust = ssl.create_default_context(cafile=certificate.cert)
    for name, value in versions.items():
        setattr(trust, name, value)
    return trust


class Shared:
    """A TLS connection that one thread reads from while another writes.

    OpenSSL's sessions are for one thread at a time, and Python's wait inside of them; a read and
    a write at the same time break what is read. So it waits outside, and has a lock.
    """

    def __init__(self, plain, certificate, name):
        self.socket = context(certificate).wrap_socket(plain, server_hostname=name)
        self.socket.setblocking(False)
        self.timeout = None
        self.lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.socket, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def settimeout(self, timeout):
        self.timeout = timeout

    def shutdown(self, how):
        # Not ssl's: it forgets the session, and a reader would take what is encrypted for text.
        socket.socket.shutdown(self.socket, how)

    def recv(self, size):
        return self._when_ready(lambda: self.socket.recv(size))

    def sendall(self, data):
        data = memoryview(data)
        while data:
            data = data[self._when_ready(lambda rest=data: self.socket.send(rest)) :]

    def _when_ready(self, act):
        while True:
            with self.lock:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
            poll = select.poll()
            poll.register(self.socket, wanted)
            if not poll.poll(None if self.timeout is None else self.timeout * 1000):
                raise TimeoutError("timed out")
