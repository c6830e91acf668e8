"""The server as npm's `ws` sees it: the tests of node/."""

from support.node import run_node


def test_ws(server):
    run_node(server)
