"""Certificates for the tests, made with OpenSSL, and TLS clients."""

import ssl
import subprocess
from pathlib import Path

SUBJECT = ["-subj", "/CN=localhost"]
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificate:
    """A certificate that signs itself, and its key: two files in `directory`."""

    def __init__(self, directory, name="cert", new_key=NEW_KEY):
        self.cert = Path(directory) / f"{name}.pem"
        self.key = Path(directory) / f"{name}.key"
        self.cert.parent.mkdir(parents=True, exist_ok=True)
        files = ["-keyout", self.key, "-out", self.cert]
        openssl("req", "-x509", *new_key, *files, "-days", "30", *SUBJECT, "-addext", NAMES)

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


def openssl(*args):
    subprocess.run(["openssl", *args], capture_output=True, check=True, timeout=60)


def context(certificate, **versions):
    """What a client trusts: this certificate and no other."""
    trust = ssl.create_default_context(cafile=certificate.cert)
    for name, value in versions.items():
        setattr(trust, name, value)
    return trust
