"""An honest client that wants to be served while another attacks.

    python honest.py HOST PORT

One session publishes 40 times a second to a room, another is a member of it. When its standard
input ends it waits for what is still under way, and writes what it saw as one JSON object. It
judges only what nobody else can: whether something was lost, repeated or out of order.
"""

import json
import sys
import threading
import time

from support.client import Client

EVERY_S = 0.025


class Target:
    """What `Client` needs of a server."""

    def __init__(self, host, port):
        self.host, self.port = host, int(port)
        self.address = f"{host}:{port}"
        self.tls = None

    def ws(self, path="/ws"):
        return f"ws://{self.address}{path}"


def main(host, port):
    server = Target(host, port)
    room = f"honest/{time.time_ns()}"
    speaker, member = Client(server), Client(server)
    member.join(room)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print("ready", flush=True)
    delays_ms, sent = [], 0
    while not stop.is_set() or sent == 0:
        began = time.monotonic()
        sent += 1
        reply = speaker.publish(room, sent)
        [seen] = member.publications(room, 1)
        delays_ms.append((time.monotonic() - began) * 1_000)
        assert seen["payload"] == sent, f"{seen} instead of {sent}"
        assert seen["metadata"]["offset"] == reply["offset"] == sent, f"{seen} {reply}"
        stop.wait(max(0, EVERY_S - (time.monotonic() - began)))
    speaker.close()
    member.close()
    delays_ms.sort()
    print(
        json.dumps(
            {
                "sent": sent,
                "p50_ms": round(delays_ms[len(delays_ms) // 2], 2),
                "p99_ms": round(delays_ms[len(delays_ms) * 99 // 100], 2),
                "max_ms": round(delays_ms[-1], 2),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
