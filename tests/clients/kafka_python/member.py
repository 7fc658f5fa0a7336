"""A member of a group beside those of other clients: `member.py BOOTSTRAP TOPIC GROUP ASSIGNOR`.

It prints the values that it reads, one a line, and commits them. When its input ends, it leaves the group.
"""

import sys
import threading

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

BOOTSTRAP, TOPIC, GROUP, ASSIGNOR = sys.argv[1:]

input_has_ended = threading.Event()


def wait_for_input_to_end():
    sys.stdin.read()
    input_has_ended.set()


threading.Thread(target=wait_for_input_to_end, daemon=True).start()
consumer = KafkaConsumer(
    TOPIC,
    bootstrap_servers=BOOTSTRAP,
    group_id=GROUP,
    auto_offset_reset="earliest",
    heartbeat_interval_ms=500,
    session_timeout_ms=10_000,
    partition_assignment_strategy=[{"cooperative-sticky": CooperativeStickyAssignor, "range": RangePartitionAssignor}[ASSIGNOR]],
)
while not input_has_ended.is_set():
    # Not shorter: one of version 3 whose polls are shorter than a join takes may never join.
    for messages in consumer.poll(timeout_ms=2000).values():
        for message in messages:
            print(message.value.decode(), flush=True)
consumer.close()
