"""Writes to a cluster all the time, and tells how long it waited for an acknowledgement.

`gaps.py BOOTSTRAP TOPIC` creates the topic, with a number of partitions and three replicas, says "ready", writes numbers to
each partition every few milliseconds with librdkafka's defaults, but for idempotence, and answers each line of its input:

- "mark" with "marked": gaps count from now on;
- "settled" with the longest gap of any partition since the mark, in milliseconds, when each partition has acknowledged what was
  written after this line;
- "check" with how many acknowledged records are lost, and how many are there twice; then it ends.
"""

import collections
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
REPLICAS = 3
INTERVAL = 0.002
# Every wait ends within this, in seconds.
PATIENCE = 120
# Not librdkafka's own complaints about nodes that are killed on purpose.
COMMON = {"log_level": 0}


class Writer:
    """The producer, which is called from one thread, and what it was told."""

    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.producer = Producer({**COMMON, "bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.lock = threading.Lock()
        self.written, self.is_ended, self.failure = 0, False, None
        self.acknowledged = [[] for _ in range(PARTITIONS)]
        self.last, self.longest = [time.monotonic()] * PARTITIONS, 0.0
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.is_ended:
            for partition in range(PARTITIONS):
                value = self.written
                self.producer.produce(
                    self.topic,
                    b"%d" % value,
                    partition=partition,
                    on_delivery=lambda error, _, partition=partition, value=value: self.told(error, partition, value),
                )
                self.written += 1
            self.producer.poll(INTERVAL)
        left = self.producer.flush(PATIENCE)
        if left:
            self.failure = f"{left} records are not answered"

    def told(self, error, partition, value):
        now = time.monotonic()
        with self.lock:
            if error is not None:
                self.failure = str(error)
                return
            self.acknowledged[partition].append(value)
            self.longest = max(self.longest, now - self.last[partition])
            self.last[partition] = now

    def mark(self):
        with self.lock:
            self.longest = 0.0

    def settled(self):
        """The longest gap, when each partition has acknowledged something that is not written yet."""
        from_now, deadline = self.written + PARTITIONS, time.monotonic() + PATIENCE
        while True:
            with self.lock:
                if all(values and values[-1] >= from_now for values in self.acknowledged):
                    return self.longest
            if self.failure or time.monotonic() > deadline:
                sys.exit(self.failure or f"not every partition is written to after {PATIENCE} s")
            time.sleep(INTERVAL)

    def end(self):
        self.is_ended = True
        self.thread.join()
        if self.failure:
            sys.exit(self.failure)


def read(bootstrap, topic):
    """All values of each partition."""
    consumer = Consumer({
        **COMMON,
        "bootstrap.servers": bootstrap,
        "group.id": "gaps",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    values, open_partitions = [[] for _ in range(PARTITIONS)], set(range(PARTITIONS))
    while open_partitions:
        message = consumer.poll(PATIENCE)
        if message is None:
            sys.exit(f"cannot read {sorted(open_partitions)}")
        if message.error():
            open_partitions.discard(message.partition())
        else:
            values[message.partition()].append(int(message.value()))
    consumer.close()
    return values


def main(bootstrap, topic):
    admin = AdminClient({**COMMON, "bootstrap.servers": bootstrap})
    for created in admin.create_topics([NewTopic(topic, PARTITIONS, REPLICAS)]).values():
        created.result(PATIENCE)
    writer = Writer(bootstrap, topic)
    writer.settled()
    print("ready", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "mark":
                writer.mark()
                print("marked", flush=True)
            case "settled":
                print(f"{writer.settled() * 1e3:.1f}", flush=True)
            case "check":
                break
    writer.end()
    lost = twice = 0
    for acknowledged, found in zip(writer.acknowledged, read(bootstrap, topic)):
        counts = collections.Counter(found)
        lost += sum(1 for value in acknowledged if value not in counts)
        twice += sum(count - 1 for count in counts.values())
    print(lost, twice, flush=True)


main(*sys.argv[1:])
