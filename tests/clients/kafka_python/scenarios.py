"""kafka-python 3 and 2: one function per scenario; `scenarios.py BOOTSTRAP SCENARIO` runs one.

A scenario fails by an exception. It uses topics of its own and assigns partitions explicitly: no consumer group takes part.
"""

import os
import signal
import sys
import threading
import time
import uuid

import kafka
import kafka.admin
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewPartitions, NewTopic
from kafka.errors import (
    InvalidPartitionsError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "python"))
import interop  # noqa: E402, beside the lock files that both Python clients share

BOOTSTRAP = sys.argv[1]
MAJOR = int(kafka.__version__.split(".")[0])
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
# Every wait in a scenario ends within this, in seconds.
PATIENCE = 30
TOPIC = kafka.admin.ConfigResourceType.TOPIC
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def admin():
    return KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def create(partitions=1, **configs):
    """A new topic; returns its name."""
    name = f"kafka-python-{uuid.uuid4().hex[:12]}"
    configs = {key.replace("_", "."): str(value) for key, value in configs.items()}
    new = NewTopic(name=name, num_partitions=partitions, replication_factor=1, topic_configs=configs)
    client = admin()
    client.create_topics([new])
    client.close()
    return name


def producer(**settings):
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, retry_backoff_ms=20, **settings)


def write(writer, records):
    """Sends dicts of send()'s arguments and returns what was acknowledged, in the order of the call."""
    futures = [writer.send(**record) for record in records]
    writer.flush(PATIENCE)
    return [future.get(PATIENCE) for future in futures]


def consumer(partitions, **settings):
    """A consumer of (topic, partition, offset or None for the beginning)."""
    settings = {"fetch_max_wait_ms": 200, "auto_offset_reset": "none", "enable_auto_commit": False, **settings}
    reader = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, **settings)
    reader.assign([TopicPartition(topic, partition) for topic, partition, _ in partitions])
    for topic, partition, offset in partitions:
        if offset is None:
            reader.seek_to_beginning(TopicPartition(topic, partition))
        else:
            reader.seek(TopicPartition(topic, partition), offset)
    return reader


def take(reader, count):
    messages = []
    deadline = time.monotonic() + PATIENCE
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} messages after {PATIENCE} s"
        for batch in reader.poll(timeout_ms=200).values():
            messages += batch
    return messages


def read(topic, count, partition=0, offset=None, **settings):
    reader = consumer([(topic, partition, offset)], **settings)
    messages = take(reader, count)
    reader.close()
    return messages


def assert_dense(offsets, first=0):
    offsets = list(offsets)
    assert offsets == list(range(first, first + len(offsets))), f"offsets are not dense: {offsets[:20]}..."


def refused(error, call, *arguments):
    try:
        call(*arguments)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


@scenario
def cluster_and_metadata():
    topic = create(3)
    client = admin()
    cluster = client.describe_cluster()
    assert cluster["cluster_id"], cluster
    (broker,) = cluster["brokers"]
    broker = broker["broker_id" if MAJOR > 2 else "node_id"]
    assert cluster["controller_id"] == broker, cluster
    assert topic in client.list_topics()
    (described,) = client.describe_topics([topic])
    assert len(described["partitions"]) == 3
    for partition in described["partitions"]:
        replicas, isr, leader = (
            ("replica_nodes", "isr_nodes", "leader_id") if MAJOR > 2 else ("replicas", "isr", "leader")
        )
        assert (partition[replicas], partition[isr], partition[leader]) == ([broker], [broker], broker)
    reader = consumer([(topic, 0, 0)])
    assert reader.partitions_for_topic(topic) == {0, 1, 2}


@scenario
def topics_are_created_grown_and_deleted():
    client = admin()
    topic = create(2, segment_bytes=1048576)
    new = NewTopic(name=topic, num_partitions=2, replication_factor=1)
    refused(TopicAlreadyExistsError, client.create_topics, [new])
    wrong = NewTopic(name="a/b", num_partitions=1, replication_factor=1)
    refused(InvalidTopicError, client.create_topics, [wrong])
    client.create_partitions({topic: NewPartitions(total_count=5)})
    (described,) = client.describe_topics([topic])
    assert len(described["partitions"]) == 5
    refused(InvalidPartitionsError, client.create_partitions, {topic: NewPartitions(total_count=4)})
    client.delete_topics([topic])
    deadline = time.monotonic() + PATIENCE
    while topic in client.list_topics():
        assert time.monotonic() < deadline, "the topic is still there"
        time.sleep(0.05)
    refused(UnknownTopicOrPartitionError, client.delete_topics, [topic])


@scenario
def configs_are_described():
    topic = create(1, max_message_bytes=2000000)
    client = admin()
    resource = ConfigResource(TOPIC, topic)
    if MAJOR == 2:
        (response,) = client.describe_configs([resource])
        (described,) = response.resources
        values = {entry[0]: entry[1] for entry in described[4]}
    else:
        described = client.describe_configs([resource], config_filter="all")["topic"][topic]
        values = {name: entry["value"] for name, entry in described.items()}
        modified = client.describe_configs([resource])["topic"][topic]
        assert list(modified) == ["max.message.bytes"], modified
        change = {"retention.ms": ("SET", "3600000"), "max.message.bytes": ("DELETE", None)}
        client.alter_configs([ConfigResource(TOPIC, topic, change)])
        modified = client.describe_configs([resource])["topic"][topic]
        assert {name: entry["value"] for name, entry in modified.items()} == {"retention.ms": "3600000"}, modified
    assert values["max.message.bytes"] == "2000000"
    assert values["retention.ms"] == "604800000"
    for name in ("segment.bytes", "cleanup.policy", "compression.type", "min.insync.replicas"):
        assert name in values, f"{name} is missing among {sorted(values)}"


@scenario
def every_codec_comes_back():
    topic = create()
    expected = []
    for codec in CODECS:
        writer = producer(compression_type=codec, linger_ms=50)
        records = [
            {
                "topic": topic,
                "partition": 0,
                "key": f"{codec}-{index}".encode(),
                "value": f"{codec} {index} ".encode() * 50,
                "headers": [("codec", str(codec).encode())],
            }
            for index in range(200)
        ]
        write(writer, records)
        writer.close()
        expected += records
    messages = read(topic, len(expected))
    assert_dense(message.offset for message in messages)
    for message, record in zip(messages, expected):
        assert message.key == record["key"]
        assert message.value == record["value"]
        assert list(message.headers) == record["headers"]


@scenario
def keys_values_and_headers_may_be_null_or_empty():
    topic = create()
    records = [
        {"key": b"key", "value": None},
        {"key": b"", "value": b""},
        {"key": None, "value": b"value"},
        {"key": bytes(range(256)), "value": bytes(range(255, -1, -1))},
        {"value": b"1", "headers": [("empty", b""), ("binary", b"\x00\xff")]},
        {"value": b"2", "headers": [("same", b"1"), ("same", b"2"), ("", b"no name")]},
        {"value": "naïve ☃".encode(), "headers": [("ключ", "значение".encode())]},
    ]
    write(producer(), [{"topic": topic, "partition": 0, **record} for record in records])
    for message, record in zip(read(topic, len(records)), records):
        assert message.key == record.get("key")
        assert message.value == record.get("value")
        assert list(message.headers) == record.get("headers", [])


@scenario
def timestamps_are_the_producers_or_the_logs():
    now = int(time.time() * 1000)
    stamps = [now - 60_000, now - 10, now - 30_000, now]
    topic = create()
    records = [{"topic": topic, "value": b"x", "timestamp_ms": stamp} for stamp in stamps]
    acknowledged = write(producer(linger_ms=50), records)
    assert [metadata.timestamp for metadata in acknowledged] == stamps
    messages = read(topic, 4)
    assert [message.timestamp for message in messages] == stamps
    assert {message.timestamp_type for message in messages} == {0}

    topic = create(message_timestamp_type="LogAppendTime")
    acknowledged = write(producer(linger_ms=50), [{**record, "topic": topic} for record in records])
    messages = read(topic, 4)
    assert {message.timestamp_type for message in messages} == {1}
    for message, metadata in zip(messages, acknowledged):
        assert now - 1000 <= message.timestamp <= time.time() * 1000 + 1000
        assert message.timestamp == metadata.timestamp, "the acknowledgement told another time"


@scenario
def records_of_one_byte_and_of_one_megabyte():
    topic = create()
    writer = producer(max_request_size=1_500_000)
    sizes = [1, 1_000_000, 1, 1_048_000, 65_536, 1]
    values = [bytes([index]) * size for index, size in enumerate(sizes)]
    write(writer, [{"topic": topic, "partition": 0, "value": value} for value in values])
    for settings in ({}, {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}):
        assert [message.value for message in read(topic, len(sizes), **settings)] == values
    too_large = {"topic": topic, "partition": 0, "value": b"x" * 1_200_000}
    refused(MessageSizeTooLargeError, write, writer, [too_large])
    write(producer(), [{"topic": topic, "partition": 0, "value": b"after"}])
    assert read(topic, 1, offset=len(sizes))[0].value == b"after"


@scenario
def idempotent_producer_writes_each_record_once_in_order():
    topic = create(2)
    writer = producer(enable_idempotence=True, linger_ms=0, batch_size=200)
    records = [{"topic": topic, "partition": index % 2, "value": str(index).encode()} for index in range(2000)]
    acknowledged = write(writer, records)
    for partition in range(2):
        assert_dense(metadata.offset for metadata in acknowledged if metadata.partition == partition)
        messages = read(topic, 1000, partition)
        assert [int(message.value) for message in messages] == list(range(partition, 2000, 2))


@scenario
def every_level_of_acks():
    topic = create()
    # Not 0 first: what is sent without an answer to a topic that is still being set up may be lost.
    levels = [1, "all", 0]
    if MAJOR == 2:
        # kafka-python 2.3.3 completes these sends without a trace of them on any broker, Kafka's included.
        levels.remove(0)
    for acks in levels:
        writer = producer(acks=acks, enable_idempotence=False)
        write(writer, [{"topic": topic, "partition": 0, "value": str(acks).encode()}] * 100)
        writer.close()
    messages = read(topic, 100 * len(levels))
    assert_dense(message.offset for message in messages)
    assert [message.value for message in messages] == [str(acks).encode() for acks in levels for _ in range(100)]


@scenario
def offsets_for_times_and_ends():
    topic = create()
    now = int(time.time() * 1000)
    writer = producer(linger_ms=100)
    for batch in range(10):
        first = now - 10_000 + batch * 1000
        stamps = [first + index * 10 for index in range(10)]
        write(writer, [{"topic": topic, "partition": 0, "value": b"x", "timestamp_ms": stamp} for stamp in stamps])
    partition = TopicPartition(topic, 0)
    reader = consumer([(topic, 0, 0)])
    assert reader.beginning_offsets([partition]) == {partition: 0}
    assert reader.end_offsets([partition]) == {partition: 100}

    def at(stamp):
        return reader.offsets_for_times({partition: stamp})[partition]

    assert at(0).offset == 0
    found = at(now - 10_000 + 3000 + 41)
    assert (found.offset, found.timestamp) == (35, now - 10_000 + 3000 + 50)
    assert at(now - 10_000 + 3000 + 91).offset == 40
    assert at(now + 1) is None


@scenario
def reading_starts_at_the_beginning_the_end_or_where_asked():
    topic = create()
    writer = producer()
    write(writer, [{"topic": topic, "partition": 0, "value": str(index).encode()} for index in range(50)])
    assert_dense(message.offset for message in read(topic, 50))
    at_end = consumer([(topic, 0, 0)])
    at_end.seek_to_end(TopicPartition(topic, 0))
    assert at_end.poll(timeout_ms=1000) == {}, "the end is not the end"
    write(writer, [{"topic": topic, "partition": 0, "value": b"50"}])
    assert [message.offset for message in take(at_end, 1)] == [50]
    assert_dense(message.offset for message in read(topic, 51, offset=1_000_000, auto_offset_reset="earliest"))
    refused(OffsetOutOfRangeError, take, consumer([(topic, 0, 1_000_000)]), 1)


@scenario
def fetch_from_the_middle_of_a_batch():
    for codec in CODECS:
        topic = create()
        writer = producer(linger_ms=500, compression_type=codec)
        write(writer, [{"topic": topic, "partition": 0, "value": str(index).encode()} for index in range(100)])
        for first in (0, 1, 37, 99):
            messages = read(topic, 100 - first, offset=first)
            assert_dense((message.offset for message in messages), first)
            assert messages[0].value == str(first).encode()


@scenario
def reading_while_writing():
    topic = create(2)
    total = 2000
    failures = []

    def write_all():
        writer = producer(linger_ms=1)
        for index in range(total):
            writer.send(topic, str(index).encode(), partition=index % 2).add_errback(failures.append)
            if index % 20 == 0:
                time.sleep(0.002)
        writer.flush(PATIENCE)

    reader = consumer([(topic, 0, 0), (topic, 1, 0)])
    reader.poll(timeout_ms=500)
    writer = threading.Thread(target=write_all)
    writer.start()
    messages = take(reader, total)
    writer.join()
    assert not failures, failures
    for partition in range(2):
        mine = [message for message in messages if message.partition == partition]
        assert_dense(message.offset for message in mine)
        assert [int(message.value) for message in mine] == list(range(partition, total, 2))


@scenario
def many_partitions():
    topic = create(60)
    records = [{"topic": topic, "key": f"key-{n}".encode(), "value": str(n).encode()} for n in range(3000)]
    acknowledged = write(producer(linger_ms=20), records)
    where = {index: (metadata.partition, metadata.offset) for index, metadata in enumerate(acknowledged)}
    assert len({partition for partition, _ in where.values()}) == 60
    messages = take(consumer([(topic, partition, 0) for partition in range(60)]), 3000)
    assert {int(message.value): (message.partition, message.offset) for message in messages} == where


@scenario
def acknowledged_records_survive_kill_and_restart():
    """Writes on through a kill -9 and a restart; the test does these when it has read the line, and answers when done."""
    topic = create()
    writer = producer(enable_idempotence=True, linger_ms=0, reconnect_backoff_max_ms=500)
    futures = []

    for line in ("kill me", "stop me"):
        done = threading.Event()
        for index in range(400):
            futures.append(writer.send(topic, str(len(futures)).encode(), partition=0))
            if index == 200:
                print(line, flush=True)
                threading.Thread(target=lambda done=done: (sys.stdin.readline(), done.set()), daemon=True).start()
            time.sleep(0.001)
        assert done.wait(60), "the test did not answer"
        for _ in range(100):
            futures.append(writer.send(topic, str(len(futures)).encode(), partition=0))
    writer.flush(60)
    assert_dense(future.get(1).offset for future in futures)
    messages = read(topic, len(futures))
    assert_dense(message.offset for message in messages)
    assert [int(message.value) for message in messages] == list(range(len(futures))), "lost, doubled or reordered"


def write_for_others(topic):
    for codec in interop.CODECS:
        writer = producer(compression_type=None if codec == "none" else codec, linger_ms=50)
        records = [
            {"topic": topic, "partition": 0, "timestamp_ms": timestamp, "key": key, "value": value, "headers": headers}
            for timestamp, key, value, headers in interop.records(codec)
        ]
        write(writer, records)


def read_from_others(topic):
    for message in read(topic, len(interop.CODECS) * interop.PER_CODEC):
        interop.show(topic, message.offset, message.timestamp, message.key, message.value, message.headers)


def main():
    name = sys.argv[2]
    # The default action of SIGALRM ends the process.
    signal.alarm(110)
    if name == "--list":
        print("\n".join(SCENARIOS))
    elif name == "write":
        write_for_others(sys.argv[3])
    elif name == "read":
        for topic in sys.argv[3:]:
            read_from_others(topic)
    else:
        SCENARIOS[name]()


main()
