"""The HTTP API, asked with curl: another program's idea of HTTP."""

import json
import subprocess


class Reply:
    """What curl got: status, headers and body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


def call(server, path, *options, key, body=None, content_type="application/json"):
    """One request. `body` is text, bytes, or what becomes JSON; it makes the request a POST."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--include"]
    # Brackets and dots of a path are ours to send.
    command += ["--globoff", "--path-as-is"]
    if key:
        command += ["--header", f"Authorization: Bearer {key}"]
    if body is not None:
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        body = body.encode() if isinstance(body, str) else body
        command += ["--header", f"Content-Type: {content_type}"] if content_type else []
        command += ["--data-binary", "@-"]
    done = subprocess.run(
        [*command, *options, server.url(path)], input=body, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    head, _, body_bytes = done.stdout.partition(b"\r\n\r\n")
    while b" 100 " in head.split(b"\r\n")[0]:
        head, _, body_bytes = body_bytes.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    headers = {name.lower(): value for name, value in headers.items()}
    return Reply(int(lines[0].split()[1]), headers, body_bytes.decode())


def problem(reply, status, **members):
    """Checks that it is a refusal: RFC 9457, with these members."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json
    assert document["status"] == status
    assert {name: document.get(name) for name in members} == members
    return document
