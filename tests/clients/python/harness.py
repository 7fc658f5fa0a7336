"""What the scenarios of all Python clients need: how they are named and run, and how they wait and compare."""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import namedtuple

# Every wait in a scenario ends within this, in seconds.
PATIENCE = 120
# How many replicas the topics of a scenario have.
REPLICATION = int(os.environ.get("REPLICATION", "1"))
# The whole program ends within this, in seconds.
ALARM = 230
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


class Ledger:
    """What the members of a group have read and committed, together. What is known to be committed is not read again."""

    def __init__(self):
        self._lock = threading.Lock()
        self._values, self._committed = set(), {}
        self.next = {}

    def read(self, record):
        with self._lock:
            end = self._committed.get(record.partition, 0)
            assert record.offset >= end, f"{record} is read again: {end} is committed"
            self._values.add(int(record.value))
            self.next[record.partition] = max(record.offset + 1, self.next.get(record.partition, 0))

    def committed(self, ends):
        """Notes what was acknowledged: an offset for each partition."""
        with self._lock:
            for partition, end in ends.items():
                self._committed[partition] = max(end, self._committed.get(partition, 0))

    def has_read(self, count):
        with self._lock:
            return self._values >= set(range(count))

    def is_all_committed(self, count):
        return self.has_read(count) and self._committed == self.next


class Process:
    """This program once more, as a process of its own that a scenario can stop and kill."""

    started = []

    def __init__(self, *arguments):
        command = [sys.executable, "-B", sys.argv[0], sys.argv[1], *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.last = ""
        Process.started.append(self.process)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        """Keeps the last line that it said."""
        for line in self.process.stdout:
            self.last = line.strip()

    def signal(self, number):
        self.process.send_signal(number)


def end(status):
    """Ends the program, whatever its threads still do, and leaves no process behind."""
    for process in Process.started:
        process.kill()
    sys.stdout.flush()
    os._exit(status)


def or_end(name, run):
    """Runs it; the first thread in which anything fails ends the program."""
    try:
        run()
    except BaseException:
        print(name, "failed:", file=sys.stderr)
        traceback.print_exc()
        end(1)


def run_all(names):
    """Runs scenarios at once, each in a thread."""
    threads = [threading.Thread(target=or_end, args=[name, SCENARIOS[name]]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end(0)


def main(write_for_others, read_from_others, be_a_member=None):
    """`scenarios.py BOOTSTRAP SCENARIO...`, or `--list`, `write TOPIC`, `read TOPIC...`, `member TOPIC GROUP`."""
    name, *arguments = sys.argv[2:]
    # The default action of SIGALRM ends the process; before that it says what all threads wait for.
    faulthandler.dump_traceback_later(ALARM - 5)
    signal.alarm(ALARM)
    if name == "--list":
        print("\n".join(SCENARIOS))
    elif name == "write":
        write_for_others(*arguments)
    elif name == "read":
        for topic in arguments:
            read_from_others(topic)
    elif name == "member":
        be_a_member(*arguments)
    elif arguments:
        run_all([name, *arguments])
    else:
        SCENARIOS[name]()
