"""Transactions, by confluent-kafka: `transactions.py BOOTSTRAP COMMAND TOPIC...`.

`write TOPIC PARTITIONS` commits and aborts; `open TOPIC` begins a transaction and ends without a word; `read TOPIC PARTITION
ISOLATION` prints offset, key and value of each record.
"""

import os
import sys

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "python"))
from harness import PATIENCE  # noqa: E402

BOOTSTRAP = sys.argv[1]
ROUNDS = 30
RECORDS = 10
KEYS = 7
# Several segments of 1 MiB in each partition.
VALUE_BYTES = 3000


def producer(transactional_id, **settings):
    common = {"bootstrap.servers": BOOTSTRAP, "transactional.id": transactional_id, "linger.ms": 0}
    common.update({key.replace("_", "."): value for key, value in settings.items()})
    made = Producer(common)
    made.init_transactions(PATIENCE)
    return made


def produce(producer, topic, partition, name):
    for number in range(RECORDS):
        value = f"{name} {number} ".ljust(VALUE_BYTES, ".")
        producer.produce(topic, key=f"key {number % KEYS}", value=value, partition=partition)
    assert producer.flush(PATIENCE) == 0


def write(topic, partitions):
    """Transactions of two producers lie in each other; two of three are aborted."""
    first, second = producer(f"first-{topic}"), producer(f"second-{topic}")
    second.begin_transaction()
    for number in range(ROUNDS):
        first.begin_transaction()
        for partition in range(partitions):
            produce(first, topic, partition, f"first {number}")
            produce(second, topic, partition, f"second {number}")
        if number % 3 == 0:
            first.commit_transaction(PATIENCE)
        else:
            first.abort_transaction(PATIENCE)
        if number % 5 == 4:
            if number % 2:
                second.commit_transaction(PATIENCE)
            else:
                second.abort_transaction(PATIENCE)
            second.begin_transaction()
    second.commit_transaction(PATIENCE)


def open_one(topic):
    left = producer(f"open-{topic}", transaction_timeout_ms=10_000)
    left.begin_transaction()
    produce(left, topic, 0, "open")
    # Without an end of the producer, which would abort.
    os._exit(0)


def read(topic, partition, isolation):
    settings = {"bootstrap.servers": BOOTSTRAP, "group.id": "none", "enable.auto.commit": False}
    settings.update({"isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, partition, 0)])
    while True:
        message = consumer.poll(PATIENCE)
        assert message is not None, "neither a record nor the end"
        if message.error() is None:
            print(message.offset(), message.key().decode(), message.value().decode().rstrip("."))
        elif message.error().code() == KafkaError._PARTITION_EOF:
            return
        else:
            raise AssertionError(message.error())


command, topic, *further = sys.argv[2:]
if command == "write":
    write(topic, int(further[0]))
elif command == "open":
    open_one(topic)
else:
    read(topic, int(further[0]), further[1])
