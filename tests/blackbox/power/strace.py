"""What a process asked of the kernel, and in which order, as strace saw it.

A call is two events, its begin and its end, since threads overlap. strace stops a thread at
both, so the order of its lines is one that the threads could have seen: what a thread did
because another's call had returned comes after the end of that call.
"""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass

CALLS = (
    "open,openat,creat,mkdir,mkdirat,link,linkat,unlink,unlinkat,rmdir,rename,renameat,renameat2,"
    "lseek,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,sendfile,"
    "copy_file_range,fsync,fdatasync,sync_file_range,sendto,sendmsg,mmap,msync"
)
PATIENCE_S = 60


@dataclass(frozen=True)
class Call:
    """One system call: its arguments as a text, and its result; None if it never returned."""

    name: str
    text: str
    result: int | None

    def strings(self):
        """The arguments that are strings: paths, and what was written."""
        return [unescape(found) for found in STRING.findall(self.text)]

    def data(self):
        """All that a call wrote, in one."""
        data = b"".join(self.strings())
        assert '"...' not in self.text, "strace cut what was written"
        return data

    def number(self, place):
        """The argument at `place` from behind: a number."""
        return int(self.text.rsplit(",", place + 1)[-place - 1].strip(), 0)

    def file(self, place=0):
        """What the descriptor at `place` stands for: a path, or what strace says of a socket."""
        found = DESCRIPTOR.match(self.text.split(", ")[place])
        if not found:
            return None
        name = found[1]
        return unescape(name).decode() if name.startswith("\\x") else name

    def where(self, text=None):
        """The directory that a relative path begins at."""
        found = BASE.search(self.text if text is None else text)
        return unescape(found[1]).decode() if found else None


STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"\d+<(\\x[^>]*|[^>]*->[^>]*|[^>]*)>")
BASE = re.compile(r"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})+)>, \"")
LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
RESULT = re.compile(r"\) += (-?\d+|0x[0-9a-f]+|\?)(?:[ <].*)?$")
UNFINISHED = " <unfinished ...>"


def missing():
    """Why nothing can be recorded here, if that is so."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return None if done.returncode == 0 else f"strace cannot attach: {done.stderr.strip()[-200:]}"


def wrapper(trace):
    """What to put before a command to have it recorded. What is started stays that command."""
    return [
        *("strace", "-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "16777216"),
        *("-o", str(trace), "-e", "signal=kill", "-e", f"trace={CALLS}"),
    ]


def read(trace, pid):
    """What a process did that was `pid` and has ended: pairs of "begin" or "end" and a `Call`."""
    ended = re.compile(rf"^{pid} +\+\+\+ ", re.MULTILINE)
    deadline = time.monotonic() + PATIENCE_S
    # strace is nobody's child, and writes its last line some time after the process has ended.
    while not ended.search(text := trace.read_text()):
        assert time.monotonic() < deadline, f"{trace} never said that {pid} has ended"
        time.sleep(0.01)
    return events(text)


def events(text):
    # Names, arguments and results, in the order in which the calls began.
    calls, order, pending = [], [], {}
    for line in text.splitlines():
        parsed = LINE.match(line)
        if not parsed:
            continue
        thread, resumed, name, rest = parsed.groups()
        if resumed:
            if thread not in pending:
                # It began before strace was there.
                continue
            at = pending.pop(thread)
            calls[at][1] += rest
        else:
            at = len(calls)
            calls.append([name, rest.removesuffix(UNFINISHED), None])
            order.append(("begin", at))
            if rest.endswith(UNFINISHED):
                pending[thread] = at
                continue
        result = RESULT.search(calls[at][1])
        assert result, line
        calls[at][1] = calls[at][1][: result.start()]
        calls[at][2] = None if result[1] == "?" else int(result[1], 0)
        order.append(("end", at))
    calls = [Call(*call) for call in calls]
    return [(kind, calls[at]) for kind, at in order]


def unescape(text):
    return bytes.fromhex(text.replace("\\x", ""))
