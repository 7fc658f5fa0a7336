"""What the scenarios of all Python clients need: how they are named and run, and how they wait and compare."""

import signal
import sys
import threading
import time
from collections import namedtuple

# Every wait in a scenario ends within this, in seconds.
PATIENCE = 30
# The whole program ends within this, in seconds.
ALARM = 110
SCENARIOS = {}

# A record as a reader gets it, whatever the client calls its fields. `timestamp_type`: 0 the producer's, 1 the log's.
Record = namedtuple("Record", "partition offset timestamp_type timestamp key value headers")


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def take(poll, count):
    """`count` records of those that `poll()` returns, each time a few."""
    records = []
    deadline = time.monotonic() + PATIENCE
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records after {PATIENCE} s"
        records += poll()
    return records


def eventually(condition, otherwise):
    """Waits until condition() holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def assert_dense(records, first=0):
    offsets = [record.offset for record in records]
    assert offsets == list(range(first, first + len(offsets))), f"offsets are not dense: {offsets[:20]}..."


def say(line):
    """Tells the test that a point is reached; returns an event that is set when the test has answered."""
    answered = threading.Event()
    print(line, flush=True)
    threading.Thread(target=lambda: (sys.stdin.readline(), answered.set()), daemon=True).start()
    return answered


def main(write_for_others, read_from_others):
    """`scenarios.py BOOTSTRAP SCENARIO`, or `--list`, `write TOPIC`, `read TOPIC...`."""
    name = sys.argv[2]
    # The default action of SIGALRM ends the process.
    signal.alarm(ALARM)
    if name == "--list":
        print("\n".join(SCENARIOS))
    elif name == "write":
        write_for_others(sys.argv[3])
    elif name == "read":
        for topic in sys.argv[3:]:
            read_from_others(topic)
    else:
        SCENARIOS[name]()
