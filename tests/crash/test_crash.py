"""The short form of `make crash`: what clients are promised holds over kill -9."""

from conftest import ROUNDS

from checker import load, summary


# [3.join.inbox] [3.publish] [5.1.place] [5.1.order] [5.1.gap] [5.2.all] [5.2.seam] [5.3] [5.4.key]
# [5.7.ack] [5.7.start] [5.8]
def test_promises_hold_over_kill_9(run):
    _, status, said = run
    assert status == 0, said


def test_the_run_meets_everything(run):
    """A history in which nothing happens keeps every promise: this says what does happen."""
    logs, _, _ = run
    happened = summary(load(logs))
    expected = {
        *("acked", "acked a duplicate", "resumed", "saw", "read"),
        *("recovered something", "recovered nothing", "not recovered", "gap trimmed"),
        *("kept", "recovered something, new in its inbox"),
    }
    assert expected <= happened.keys(), happened
    assert happened["killed"] >= ROUNDS
