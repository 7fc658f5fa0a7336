"""librdkafka, by confluent-kafka: one function per scenario; `scenarios.py BOOTSTRAP SCENARIO` runs one.

A scenario fails by an exception. It uses topics of its own and assigns partitions explicitly: no consumer group takes part.
"""

import os
import signal
import sys
import threading
import time
import uuid

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "python"))
import interop  # noqa: E402, beside the lock files that both Python clients share

BOOTSTRAP = sys.argv[1]
CODECS = interop.CODECS
# Every wait in a scenario ends within this, in seconds.
PATIENCE = 30
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def client(**settings):
    common = {
        "bootstrap.servers": BOOTSTRAP,
        "reconnect.backoff.max.ms": 500,
        # A topic was created a moment ago: ask again soon.
        "topic.metadata.refresh.fast.interval.ms": 20,
    }
    common.update({key.replace("_", "."): value for key, value in settings.items()})
    return common


def create(partitions=1, **configs):
    """A new topic; returns its name."""
    name = f"librdkafka-{uuid.uuid4().hex[:12]}"
    configs = {key.replace("_", "."): str(value) for key, value in configs.items()}
    admin = AdminClient(client())
    wait(admin.create_topics([NewTopic(name, partitions, 1, config=configs)]))
    return name


def wait(futures):
    """The results of an admin call; raises what it raised."""
    return {key: future.result(PATIENCE) for key, future in futures.items()}


def write(producer, records):
    """Produces dicts of produce()'s arguments and returns the acknowledged messages in the order of the call."""
    done = [None] * len(records)
    for index, record in enumerate(records):

        def on_delivery(error, message, index=index):
            done[index] = (error, message)

        while True:
            try:
                producer.produce(on_delivery=on_delivery, **record)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0, "not everything was acknowledged in time"
    for error, _ in done:
        if error is not None:
            raise KafkaException(error)
    return [message for _, message in done]


def consumer(**settings):
    return Consumer(client(group_id="none", enable_auto_commit=False, fetch_wait_max_ms=200, **settings))


def read(topic, count, partition=0, offset=OFFSET_BEGINNING, **settings):
    """`count` messages of a partition from an offset on."""
    reader = consumer(**settings)
    reader.assign([TopicPartition(topic, partition, offset)])
    messages = take(reader, count)
    reader.close()
    return messages


def take(reader, count):
    messages = []
    deadline = time.monotonic() + PATIENCE
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} messages after {PATIENCE} s"
        for message in reader.consume(count - len(messages), 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    return messages


def assert_dense(messages, first=0):
    offsets = [message.offset() for message in messages]
    assert offsets == list(range(first, first + len(messages))), f"offsets are not dense: {offsets[:20]}..."


@scenario
def cluster_and_metadata():
    topic = create(3)
    admin = AdminClient(client())
    metadata = admin.list_topics(timeout=PATIENCE)
    assert metadata.cluster_id, "no cluster id"
    assert len(metadata.brokers) == 1, metadata.brokers
    assert metadata.controller_id in metadata.brokers, metadata.controller_id
    partitions = metadata.topics[topic].partitions
    assert sorted(partitions) == [0, 1, 2], partitions
    (broker,) = metadata.brokers
    for partition in partitions.values():
        assert (partition.leader, partition.replicas, partition.isrs) == (broker, [broker], [broker])
    cluster = admin.describe_cluster().result(PATIENCE)
    assert cluster.cluster_id == metadata.cluster_id
    assert [node.id for node in cluster.nodes] == [broker]


@scenario
def topics_are_created_described_grown_and_deleted():
    admin = AdminClient(client())
    topic = create(2, segment_bytes=1048576)
    try:
        wait(admin.create_topics([NewTopic(topic, 2, 1)]))
        raise AssertionError("a topic was created twice")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    try:
        wait(admin.create_topics([NewTopic(topic + "-3", 1, 3)]))
        raise AssertionError("three replicas on one broker")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR, error
    wait(admin.create_topics([NewTopic(topic + "-dry", 1, 1)], validate_only=True))
    assert topic + "-dry" not in admin.list_topics(timeout=PATIENCE).topics

    wait(admin.create_partitions([NewPartitions(topic, 5)]))
    described = wait(admin.describe_topics(TopicCollection([topic])))[topic]
    assert [partition.id for partition in described.partitions] == list(range(5))
    assert not described.is_internal
    try:
        wait(admin.create_partitions([NewPartitions(topic, 4)]))
        raise AssertionError("partitions were taken away")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.INVALID_PARTITIONS, error

    wait(admin.delete_topics([topic]))
    deadline = time.monotonic() + PATIENCE
    while topic in admin.list_topics(timeout=PATIENCE).topics:
        assert time.monotonic() < deadline, "the topic is still there"
        time.sleep(0.05)
    try:
        wait(admin.delete_topics([topic]))
        raise AssertionError("a topic was deleted twice")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART, error


@scenario
def configs_are_described_and_altered():
    admin = AdminClient(client())
    topic = create(1, max_message_bytes=2000000)
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def configs():
        (entries,) = wait(admin.describe_configs([resource])).values()
        return entries

    before = configs()
    for name in ("retention.ms", "segment.bytes", "cleanup.policy", "compression.type", "min.insync.replicas"):
        assert name in before, f"{name} is missing among {sorted(before)}"
    assert before["max.message.bytes"].value == "2000000"
    assert not before["max.message.bytes"].is_default
    assert before["retention.ms"].value == "604800000"
    assert before["retention.ms"].is_default

    def alter(name, value, operation):
        change = ConfigEntry(name, value, incremental_operation=operation)
        wait(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])]))

    alter("retention.ms", "3600000", AlterConfigOpType.SET)
    assert configs()["retention.ms"].value == "3600000"
    assert configs()["max.message.bytes"].value == "2000000", "a change of one key changed another"
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    assert configs()["retention.ms"].value == "604800000"
    for name, value in (("retention.ms", "a while"), ("retention.millis", "1"), ("max.message.bytes", "-5")):
        try:
            alter(name, value, AlterConfigOpType.SET)
            raise AssertionError(f"{name}={value} was taken")
        except KafkaException as error:
            assert error.args[0].code() == KafkaError.INVALID_CONFIG, error

    broker = next(iter(admin.list_topics(timeout=PATIENCE).brokers))
    (entries,) = wait(admin.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))])).values()
    for name in ("log.dirs", "num.partitions", "message.max.bytes"):
        assert name in entries, f"{name} is missing among {sorted(entries)}"


@scenario
def every_codec_comes_back():
    topic = create()
    expected = []
    for codec in CODECS:
        producer = Producer(client(compression_type=codec, linger_ms=50))
        records = [
            {
                "topic": topic,
                "partition": 0,
                "key": f"{codec}-{index}",
                "value": f"{codec} {index} ".encode() * 50,
                "headers": [("codec", codec.encode())],
            }
            for index in range(200)
        ]
        write(producer, records)
        expected += records
    messages = read(topic, len(expected))
    assert_dense(messages)
    for message, record in zip(messages, expected):
        assert message.key() == record["key"].encode()
        assert message.value() == record["value"]
        assert message.headers() == record["headers"]


@scenario
def keys_values_and_headers_may_be_null_or_empty():
    topic = create()
    records = [
        {"key": None, "value": None},
        {"key": b"", "value": b""},
        {"key": b"key", "value": None},
        {"key": None, "value": b"value"},
        {"key": bytes(range(256)), "value": bytes(range(255, -1, -1))},
        {"value": b"1", "headers": [("null", None), ("empty", b""), ("binary", b"\x00\xff")]},
        {"value": b"2", "headers": [("same", b"1"), ("same", b"2"), ("", b"no name")]},
        {"value": "naïve ☃".encode(), "headers": [("ключ", "значение".encode())]},
        {"value": b"many", "headers": [(f"h{index}", b"x" * index) for index in range(100)]},
    ]
    write(Producer(client()), [{"topic": topic, "partition": 0, **record} for record in records])
    for message, record in zip(read(topic, len(records)), records):
        assert message.key() == record.get("key")
        assert message.value() == record.get("value")
        assert (message.headers() or []) == record.get("headers", [])


@scenario
def timestamps_are_the_producers_or_the_logs():
    topic = create()
    now = int(time.time() * 1000)
    stamps = [now - 60_000, now - 10, now - 30_000, now]
    write(Producer(client(linger_ms=50)), [{"topic": topic, "value": b"x", "timestamp": stamp} for stamp in stamps])
    assert [message.timestamp() for message in read(topic, 4)] == [(TIMESTAMP_CREATE_TIME, stamp) for stamp in stamps]

    topic = create(message_timestamp_type="LogAppendTime")
    for codec in ("none", "lz4"):
        producer = Producer(client(compression_type=codec, linger_ms=50))
        write(producer, [{"topic": topic, "value": b"x" * 100, "timestamp": stamp} for stamp in stamps])
    for message in read(topic, 8):
        kind, stamp = message.timestamp()
        assert kind == TIMESTAMP_LOG_APPEND_TIME
        assert now - 1000 <= stamp <= time.time() * 1000 + 1000, (stamp, now)


@scenario
def records_of_one_byte_and_of_one_megabyte():
    topic = create()
    producer = Producer(client(message_max_bytes=1_500_000, linger_ms=0))
    sizes = [1, 1_000_000, 1, 1_048_000, 65_536, 1]
    write(producer, [{"topic": topic, "partition": 0, "value": bytes([index]) * size} for index, size in enumerate(sizes)])
    # Limits far below a record: it must come nevertheless.
    small = {"fetch_max_bytes": 1_000_000, "max_partition_fetch_bytes": 1000, "message_max_bytes": 1000}
    for settings in ({}, small):
        messages = read(topic, len(sizes), **settings)
        assert [len(message.value()) for message in messages] == sizes
        for index, message in enumerate(messages):
            assert message.value() == bytes([index]) * sizes[index]
    try:
        write(producer, [{"topic": topic, "value": b"x" * 1_200_000}])
        raise AssertionError("a record above max.message.bytes was taken")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, error
    assert len(read(topic, len(sizes))) == len(sizes)


@scenario
def idempotent_producer_writes_each_record_once_in_order():
    topic = create(4)
    producer = Producer(client(enable_idempotence=True, linger_ms=0, batch_num_messages=10))
    records = [{"topic": topic, "partition": index % 4, "value": str(index)} for index in range(8000)]
    acknowledged = write(producer, records)
    for partition in range(4):
        mine = [message for message in acknowledged if message.partition() == partition]
        assert_dense(mine)
        messages = read(topic, 2000, partition)
        assert_dense(messages)
        assert [int(message.value()) for message in messages] == list(range(partition, 8000, 4))


@scenario
def every_level_of_acks():
    topic = create()
    # Not 0 first: what is sent without an answer to a topic that is still being set up may be lost.
    for acks in (1, "all", 0):
        acknowledged = write(Producer(client(acks=acks)), [{"topic": topic, "partition": 0, "value": str(acks)}] * 100)
        if acks != 0:
            assert_dense(acknowledged, 0 if acks == 1 else 100)
    messages = read(topic, 300)
    assert_dense(messages)
    assert [message.value() for message in messages] == [b"1"] * 100 + [b"all"] * 100 + [b"0"] * 100


@scenario
def offsets_for_times_and_watermarks():
    topic = create()
    now = int(time.time() * 1000)
    producer = Producer(client(linger_ms=0))
    for batch in range(10):
        records = [
            {"topic": topic, "partition": 0, "value": b"x", "timestamp": now - 10_000 + batch * 1000 + index * 10}
            for index in range(10)
        ]
        write(producer, records)
    reader = consumer()
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE) == (0, 100)

    def offset_at(stamp):
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=PATIENCE)
        return found.offset

    assert offset_at(0) == 0
    assert offset_at(now - 10_000) == 0
    assert offset_at(now - 10_000 + 3000 + 41) == 35, "the first record that is not older, inside a batch"
    assert offset_at(now - 10_000 + 3000 + 91) == 40, "the first of the next batch"
    assert offset_at(now - 910) == 100 - 1
    assert offset_at(now + 1) == OFFSET_END
    reader.close()
    admin = AdminClient(client())
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99)):
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
            asked = {TopicPartition(topic, 0): spec}
            (found,) = wait(admin.list_offsets(asked, isolation_level=level)).values()
            assert found.offset == offset, (spec, found)


@scenario
def reading_starts_at_the_beginning_the_end_or_where_asked():
    topic = create()
    producer = Producer(client())
    write(producer, [{"topic": topic, "partition": 0, "value": str(index)} for index in range(50)])
    assert_dense(read(topic, 50))
    at_end = consumer()
    at_end.assign([TopicPartition(topic, 0, OFFSET_END)])
    assert at_end.consume(1, 1.0) == [], "the end is not the end"
    write(producer, [{"topic": topic, "partition": 0, "value": b"50"}])
    assert [message.offset() for message in take(at_end, 1)] == [50]
    at_end.close()
    # Out of range: auto.offset.reset decides.
    assert_dense(read(topic, 51, offset=1_000_000, auto_offset_reset="earliest"))
    reader = consumer(auto_offset_reset="error")
    reader.assign([TopicPartition(topic, 0, 1_000_000)])
    try:
        take(reader, 1)
        raise AssertionError("read beyond the end")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError._AUTO_OFFSET_RESET, error
    reader.close()


@scenario
def fetch_from_the_middle_of_a_batch():
    for codec in CODECS:
        topic = create()
        producer = Producer(client(linger_ms=500, compression_type=codec))
        write(producer, [{"topic": topic, "partition": 0, "value": str(index)} for index in range(100)])
        for first in (0, 1, 37, 99):
            messages = read(topic, 100 - first, offset=first)
            assert_dense(messages, first)
            assert messages[0].value() == str(first).encode()


@scenario
def reading_while_writing():
    topic = create(2)
    total = 4000
    lag = []

    def write_all():
        producer = Producer(client(linger_ms=1))
        for index in range(total):
            value = f"{index} {time.time()}"
            producer.produce(topic, value, partition=index % 2)
            producer.poll(0)
            if index % 20 == 0:
                time.sleep(0.002)
        assert producer.flush(PATIENCE) == 0

    reader = consumer()
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
    reader.consume(1, 0.5)
    writer = threading.Thread(target=write_all)
    writer.start()
    seen = {0: [], 1: []}
    deadline = time.monotonic() + PATIENCE
    while len(seen[0]) + len(seen[1]) < total:
        assert time.monotonic() < deadline, {partition: len(values) for partition, values in seen.items()}
        for message in reader.consume(500, 0.1):
            assert not message.error(), message.error()
            index, written = message.value().split()
            lag.append(time.time() - float(written))
            seen[message.partition()].append(int(index))
    writer.join()
    reader.close()
    assert seen[0] == list(range(0, total, 2))
    assert seen[1] == list(range(1, total, 2))
    lag.sort()
    # The wait of an empty fetch is 200 ms: writes wake it, so the median is far below.
    assert lag[len(lag) // 2] < 0.15, f"median lag {lag[len(lag) // 2]:.3f} s"


@scenario
def many_partitions():
    topic = create(60)
    producer = Producer(client(linger_ms=20, partitioner="murmur2_random"))
    acknowledged = write(producer, [{"topic": topic, "key": f"key-{index}", "value": str(index)} for index in range(6000)])
    where = {int(message.value()): (message.partition(), message.offset()) for message in acknowledged}
    assert len({partition for partition, _ in where.values()}) == 60
    reader = consumer()
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(60)])
    found = {int(message.value()): (message.partition(), message.offset()) for message in take(reader, 6000)}
    reader.close()
    assert found == where


@scenario
def a_topic_is_created_by_its_first_producer():
    topic = f"librdkafka-auto-{uuid.uuid4().hex[:12]}"
    (message,) = write(Producer(client()), [{"topic": topic, "value": b"first"}])
    assert message.offset() == 0
    assert read(topic, 1, message.partition())[0].value() == b"first"

    topic = f"librdkafka-absent-{uuid.uuid4().hex[:12]}"
    reader = consumer(allow_auto_create_topics=False)
    for _ in range(2):
        described = reader.list_topics(topic, timeout=PATIENCE).topics[topic]
        assert described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, described.error
    reader.close()
    assert topic not in AdminClient(client()).list_topics(timeout=PATIENCE).topics


@scenario
def a_deleted_topic_comes_back_empty():
    topic = create()
    admin = AdminClient(client())
    write(Producer(client()), [{"topic": topic, "value": b"old"}] * 10)
    wait(admin.delete_topics([topic]))
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            wait(admin.create_topics([NewTopic(topic, 1, 1)]))
            break
        except KafkaException as error:
            assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
            assert time.monotonic() < deadline, "the topic is still there"
            time.sleep(0.05)
    (message,) = write(Producer(client()), [{"topic": topic, "value": b"new"}])
    assert message.offset() == 0
    assert [message.value() for message in read(topic, 1)] == [b"new"]


@scenario
def acknowledged_records_survive_kill_and_restart():
    """Writes on through a kill -9 and a restart; the test does these when it has read the line, and answers when done."""
    topic = create()
    producer = Producer(client(enable_idempotence=True, linger_ms=0))
    acknowledged, failed = [], []

    def on_delivery(error, message):
        failed.append(error) if error else acknowledged.append((message.offset(), int(message.value())))

    sent = 0
    for line in ("kill me", "stop me"):
        said = threading.Event()
        mark = len(acknowledged) + 200
        announced = False
        after = None
        while after is None or len(acknowledged) < after:
            producer.produce(topic, str(sent), partition=0, on_delivery=on_delivery)
            sent += 1
            producer.poll(0.001)
            if not announced and len(acknowledged) >= mark:
                announced = True
                print(line, flush=True)
                threading.Thread(target=lambda said=said: (sys.stdin.readline(), said.set()), daemon=True).start()
            if after is None and said.is_set():
                after = len(acknowledged) + 200
    assert producer.flush(PATIENCE) == 0
    assert not failed, failed[:5]
    assert acknowledged == [(index, index) for index in range(sent)], "acknowledged out of order, or not at its offset"
    messages = read(topic, sent)
    assert_dense(messages)
    assert [int(message.value()) for message in messages] == list(range(sent)), "lost, doubled or reordered"


def write_for_others(topic):
    for codec in interop.CODECS:
        producer = Producer(client(compression_type=codec, linger_ms=50))
        records = [
            {"topic": topic, "partition": 0, "timestamp": timestamp, "key": key, "value": value, "headers": headers}
            for timestamp, key, value, headers in interop.records(codec)
        ]
        write(producer, records)


def read_from_others(topic):
    for message in read(topic, len(interop.CODECS) * interop.PER_CODEC):
        _, timestamp = message.timestamp()
        interop.show(topic, message.offset(), timestamp, message.key(), message.value(), message.headers())


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
