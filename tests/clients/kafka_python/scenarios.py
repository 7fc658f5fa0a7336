"""kafka-python 3 and 2: one function per scenario; `scenarios.py BOOTSTRAP SCENARIO` runs one.

A scenario fails by an exception. It uses topics of its own, and assigns partitions explicitly unless it is about groups.
Those that mean the same to other clients are in `../python/shared.py`.
"""

import os
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
import harness  # noqa: E402, as the next two: beside the lock files that all Python clients share
import interop  # noqa: E402
import shared  # noqa: E402
from harness import PATIENCE, Record, assert_dense, eventually, scenario  # noqa: E402

BOOTSTRAP = sys.argv[1]
MAJOR = int(kafka.__version__.split(".")[0])
TOPIC = kafka.admin.ConfigResourceType.TOPIC

# What the shared scenarios ask for.
FURTHER_NULLS = []
ACKNOWLEDGEMENTS_TELL_THE_TIME = True
LARGE_REQUESTS = {"max_request_size": 1_500_000}
SMALL_FETCHES = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
SMALL_BATCHES = {"batch_size": 200}
BY_KEY = {}
TOO_LARGE = MessageSizeTooLargeError
OUT_OF_RANGE = OffsetOutOfRangeError
IDEMPOTENT_RECORDS = 2000
WRITTEN_WHILE_READING = 2000
# Not 0 first: what is sent without an answer to a topic that is still being set up may be lost. And kafka-python 2.3.3
# completes such sends without a trace of them on any broker, Kafka's included.
ACKS = [1, "all", 0] if MAJOR > 2 else [1, "all"]


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


def refused(error, call, *arguments):
    try:
        call(*arguments)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def producer(codec="none", **settings):
    codec = None if codec == "none" else codec
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, retry_backoff_ms=20, compression_type=codec, **settings)


def send(producer, records):
    """Sends records; returns a future of each."""
    records = [{"timestamp_ms" if key == "timestamp" else key: value for key, value in record.items()} for record in records]
    return [producer.send(**record) for record in records]


def finish(producer):
    """Waits until all is acknowledged or has failed."""
    producer.close(timeout=PATIENCE)


def write(producer, records):
    """Sends, and returns what was acknowledged, in the order of the call."""
    futures = send(producer, records)
    producer.flush(PATIENCE)
    return [future.get(PATIENCE) for future in futures]


def reader(partitions, **settings):
    """A consumer of (topic, partition, offset, None for the beginning, or END)."""
    settings = {"fetch_max_wait_ms": 200, "auto_offset_reset": "none", "enable_auto_commit": False, **settings}
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, **settings)
    consumer.assign([TopicPartition(topic, partition) for topic, partition, _ in partitions])
    for topic, partition, offset in partitions:
        if offset is None:
            consumer.seek_to_beginning(TopicPartition(topic, partition))
        elif offset == shared.END:
            consumer.seek_to_end(TopicPartition(topic, partition))
        else:
            consumer.seek(TopicPartition(topic, partition), offset)
    return consumer


def poll(reader, seconds):
    polled = reader.poll(timeout_ms=int(seconds * 1000)).values()
    return [
        Record(m.partition, m.offset, m.timestamp_type, m.timestamp, m.key, m.value, list(m.headers))
        for messages in polled
        for m in messages
    ]


def close(reader):
    reader.close()


read = shared.declare(sys.modules[__name__])


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
    assert reader([(topic, 0, 0)]).partitions_for_topic(topic) == {0, 1, 2}


@scenario
def topics_are_created_grown_and_deleted():
    client = admin()
    topic = create(2, segment_bytes=1048576)
    new = NewTopic(name=topic, num_partitions=2, replication_factor=1)
    refused(TopicAlreadyExistsError, client.create_topics, [new])
    wrong = NewTopic(name="a/b", num_partitions=1, replication_factor=1)
    refused(InvalidTopicError, client.create_topics, [wrong])
    client.create_partitions({topic: NewPartitions(total_count=5)})

    def is_grown():
        (described,) = client.describe_topics([topic])
        return len(described["partitions"]) == 5

    # A broker may tell of a decision a moment after it was made.
    eventually(is_grown, "the topic has not grown")
    refused(InvalidPartitionsError, client.create_partitions, {topic: NewPartitions(total_count=4)})
    client.delete_topics([topic])
    eventually(lambda: topic not in client.list_topics(), "the topic is still there")
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
def offsets_for_times_and_ends():
    topic = create()
    now = int(time.time() * 1000)
    writer = producer(linger_ms=100)
    for batch in range(10):
        first = now - 10_000 + batch * 1000
        stamps = [first + index * 10 for index in range(10)]
        write(writer, [{"topic": topic, "partition": 0, "value": b"x", "timestamp": stamp} for stamp in stamps])
    partition = TopicPartition(topic, 0)
    asking = reader([(topic, 0, 0)])
    assert asking.beginning_offsets([partition]) == {partition: 0}
    assert asking.end_offsets([partition]) == {partition: 100}

    def at(stamp):
        return asking.offsets_for_times({partition: stamp})[partition]

    assert at(0).offset == 0
    found = at(now - 10_000 + 3000 + 41)
    assert (found.offset, found.timestamp) == (35, now - 10_000 + 3000 + 50)
    assert at(now - 10_000 + 3000 + 91).offset == 40
    assert at(now + 1) is None


@scenario
def acknowledged_records_survive_kill_and_restart():
    """Writes on through a kill -9 and a restart; the test does these when it has read the line, and answers when done."""
    topic = create()
    writer = producer(enable_idempotence=True, linger_ms=0, reconnect_backoff_max_ms=500)
    futures = []

    for line in ("kill me", "stop me"):
        for index in range(400):
            futures.append(writer.send(topic, str(len(futures)).encode(), partition=0))
            if index == 200:
                answered = harness.say(line)
            time.sleep(0.001)
        assert answered.wait(60), "the test did not answer"
        for _ in range(100):
            futures.append(writer.send(topic, str(len(futures)).encode(), partition=0))
    writer.flush(60)
    assert_dense([future.get(1) for future in futures])
    records = read(topic, len(futures))
    assert_dense(records)
    assert [int(record.value) for record in records] == list(range(len(futures))), "lost, doubled or reordered"


class Member(threading.Thread):
    """A consumer of a group, at work in a thread of its own until it is told to leave."""

    def __init__(self, topic, group, **settings):
        super().__init__(daemon=True)
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300, **settings}
        self.consumer = KafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=group, **settings)
        self.assigned, self.read, self.is_leaving = set(), [], False
        self.start()

    def run(self):
        while not self.is_leaving:
            read = poll(self.consumer, 0.2)
            if read:
                self.consumer.commit()
            self.read += read
            self.assigned = {partition.partition for partition in self.consumer.assignment()}
        self.consumer.close()

    def leave(self):
        self.is_leaving = True
        self.join(PATIENCE)
        assert not self.is_alive(), "it does not leave"


@scenario
def members_of_a_group_share_the_partitions_and_take_over():
    topic, group = create(4), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), [{"topic": topic, "partition": number % 4, "value": str(number).encode()} for number in range(40)])
    first = Member(topic, group)
    eventually(lambda: len(first.read) == 40, "not everything was read")
    second = Member(topic, group)
    everything = {0, 1, 2, 3}
    eventually(
        lambda: first.assigned | second.assigned == everything and len(first.assigned) == len(second.assigned) == 2,
        "they do not share",
    )
    assert not first.assigned & second.assigned
    first.leave()
    eventually(lambda: second.assigned == everything, "nobody takes over")
    write(producer(), [{"topic": topic, "partition": partition, "value": b"later"} for partition in range(4)])
    eventually(lambda: len(second.read) == 4, "what was committed is read again, or what was not is lost")
    second.leave()
    assert [record.value for record in second.read] == [b"later"] * 4


@scenario
def a_group_goes_on_where_it_committed():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), [{"topic": topic, "partition": 0, "value": str(number).encode()} for number in range(10)])
    partition = TopicPartition(topic, 0)
    simple = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group, enable_auto_commit=False)
    simple.assign([partition])
    assert simple.committed(partition) is None
    simple.seek(partition, 7)
    simple.commit()
    assert simple.committed(partition) == 7
    simple.close()
    member = Member(topic, group)
    eventually(lambda: len(member.read) == 3, "not the rest was read")
    member.leave()
    assert [record.offset for record in member.read] == [7, 8, 9]
    client = admin()
    offsets = client.list_consumer_group_offsets(group) if MAJOR == 2 else client.list_group_offsets([group])[group]
    assert offsets[partition].offset == 10, offsets
    client.close()


def write_for_others(topic):
    for codec in interop.CODECS:
        records = [
            {"topic": topic, "partition": 0, "timestamp": timestamp, "key": key, "value": value, "headers": headers}
            for timestamp, key, value, headers in interop.records(codec)
        ]
        write(producer(codec=codec, linger_ms=50), records)


def read_from_others(topic):
    for record in read(topic, len(interop.CODECS) * interop.PER_CODEC):
        interop.show(topic, record.offset, record.timestamp, record.key, record.value, record.headers)


harness.main(write_for_others, read_from_others)
