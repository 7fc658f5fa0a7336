"""A member of a group beside those of other clients: `member.py BOOTSTRAP TOPIC GROUP ASSIGNORS`.

It prints the values that it reads, one a line, and commits them. When its input ends, it leaves the group.
"""

import sys
import threading

from confluent_kafka import Consumer

BOOTSTRAP, TOPIC, GROUP, ASSIGNORS = sys.argv[1:]

input_has_ended = threading.Event()


def wait_for_input_to_end():
    sys.stdin.read()
    input_has_ended.set()


threading.Thread(target=wait_for_input_to_end, daemon=True).start()
consumer = Consumer({
    "bootstrap.servers": BOOTSTRAP,
    "group.id": GROUP,
    "auto.offset.reset": "earliest",
    "heartbeat.interval.ms": 500,
    "session.timeout.ms": 10_000,
    "partition.assignment.strategy": ASSIGNORS,
})
consumer.subscribe([TOPIC])
while not input_has_ended.is_set():
    message = consumer.poll(0.1)
    if message is not None and message.error() is None:
        print(message.value().decode(), flush=True)
consumer.close()
