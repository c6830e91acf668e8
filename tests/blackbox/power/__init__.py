"""Power loss, rehearsed: what a disk could hold after it, and whether that keeps what was said.

A run is recorded by strace (`strace`), replayed onto a model of a file system that says what could
be left at any moment (`disk`), and compared with what the process had told others up to then
(`claims`). `rehearsal` does that many times.
"""
