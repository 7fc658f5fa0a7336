"""librdkafka, by confluent-kafka: one function per scenario; `scenarios.py BOOTSTRAP SCENARIO...` runs them, at once.

A scenario fails by an exception. It uses topics of its own, and assigns partitions explicitly unless it is about groups.
Those that mean the same to other clients are in `../python/shared.py`.
"""

import os
import signal
import sys
import time
import uuid

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
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
import harness  # noqa: E402, as the next two: beside the lock files that all Python clients share
import interop  # noqa: E402
import shared  # noqa: E402
from harness import PATIENCE, REPLICATION, Record, assert_dense, eventually, scenario  # noqa: E402

BOOTSTRAP = sys.argv[1]
# The session timeout of members that are going to miss it. All others have the client's default, far longer.
SESSION_TIMEOUT_MS = 2000

# What the shared scenarios ask for.
FURTHER_NULLS = [
    {"key": None, "value": None},
    {"value": b"3", "headers": [("null", None)]},
    {"value": b"many", "headers": [(f"h{index}", b"x" * index) for index in range(100)]},
]
ACKNOWLEDGEMENTS_TELL_THE_TIME = False
LARGE_REQUESTS = {"message_max_bytes": 1_500_000}
SMALL_FETCHES = {"fetch_max_bytes": 1_000_000, "max_partition_fetch_bytes": 1000, "message_max_bytes": 1000}
LONG_WAITS = {"fetch_wait_max_ms": 20_000}
SHORT_POLLS = {"max_poll_interval_ms": 2000, "session_timeout_ms": 2000}
SMALL_BATCHES = {"batch_num_messages": 10}
BY_KEY = {"partitioner": "murmur2_random"}
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET
IDEMPOTENT_RECORDS = 8000
WRITTEN_WHILE_READING = 4000
# Not 0 first: what is sent without an answer to a topic that is still being set up may be lost.
ACKS = [1, "all", 0]


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
    wait(admin.create_topics([NewTopic(name, partitions, REPLICATION, config=configs)]))
    # A broker may tell of a decision a moment after it was made, and a member is told at once that a topic is not there.
    eventually(lambda: name in admin.list_topics(timeout=PATIENCE).topics, "the topic is not there")
    return name


def wait(futures):
    """The results of an admin call; raises what it raised."""
    return {key: future.result(PATIENCE) for key, future in futures.items()}


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except KafkaException as error:
        assert error.args[0].code() == code, error
        return
    raise AssertionError(f"no error {code}")


def producer(codec="none", **settings):
    return Producer(client(compression_type=codec, **settings))


def as_record(message):
    kind, timestamp = message.timestamp()
    timestamp_type = int(kind == TIMESTAMP_LOG_APPEND_TIME)
    headers = message.headers() or []
    return Record(message.partition(), message.offset(), timestamp_type, timestamp, message.key(), message.value(), headers)


def send(producer, records):
    """Produces dicts of produce()'s arguments; returns a list that holds (error, message) of each when it is delivered."""
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
    return done


def finish(producer):
    assert producer.flush(PATIENCE) == 0, "not everything was acknowledged in time"


def write(producer, records):
    """Produces, and returns the acknowledged records in the order of the call."""
    done = send(producer, records)
    finish(producer)
    for error, _ in done:
        if error is not None:
            raise KafkaException(error)
    return [as_record(message) for _, message in done]


def reader(partitions, **settings):
    """A consumer of (topic, partition, offset, None for the beginning, or END)."""
    settings = {"group_id": "none", "enable_auto_commit": False, "fetch_wait_max_ms": 200, "auto_offset_reset": "error", **settings}
    offsets = {None: OFFSET_BEGINNING, shared.END: OFFSET_END}
    consumer = Consumer(client(**settings))
    consumer.assign([TopicPartition(topic, partition, offsets.get(offset, offset)) for topic, partition, offset in partitions])
    return consumer


def poll(reader, seconds):
    messages = reader.consume(500, seconds)
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
    return [as_record(message) for message in messages]


def close(reader):
    reader.close()


def subscribed(topic, group, on_revoked, **settings):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300, **settings}
    consumer = Consumer(client(group_id=group, **settings))

    def revoke(_, partitions):
        for at in partitions:
            on_revoked(at.partition)

    consumer.subscribe([topic], on_revoke=revoke, on_lost=revoke)
    return consumer


def poll_in_group(reader):
    try:
        return poll(reader, 0.1)
    except KafkaException as error:
        if not error.args[0].retriable():
            raise
        return []


def try_commit(reader, topic, offsets):
    try:
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        done = reader.commit(offsets=places, asynchronous=False)
    except KafkaException as error:
        lost = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID)
        return False if error.args[0].code() in lost else None
    return True if all(place.error is None for place in done) else None


def committed(topic, group):
    # Kept until it has answered.
    admin = AdminClient(client())
    (offsets,) = wait(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).values()
    return {at.partition: at.offset for at in offsets.topic_partitions}


read = shared.declare(sys.modules[__name__])


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
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: wait(admin.create_topics([NewTopic(topic, 2, 1)])))
    refused(KafkaError.INVALID_REPLICATION_FACTOR, lambda: wait(admin.create_topics([NewTopic(topic + "-3", 1, 3)])))
    wait(admin.create_topics([NewTopic(topic + "-dry", 1, 1)], validate_only=True))
    assert topic + "-dry" not in admin.list_topics(timeout=PATIENCE).topics

    wait(admin.create_partitions([NewPartitions(topic, 5)]))

    def is_grown():
        described = wait(admin.describe_topics(TopicCollection([topic])))[topic]
        assert not described.is_internal
        return [partition.id for partition in described.partitions] == list(range(5))

    # A broker may tell of a decision a moment after it was made.
    eventually(is_grown, "the topic has not grown")
    refused(KafkaError.INVALID_PARTITIONS, lambda: wait(admin.create_partitions([NewPartitions(topic, 4)])))

    wait(admin.delete_topics([topic]))
    eventually(lambda: topic not in admin.list_topics(timeout=PATIENCE).topics, "the topic is still there")
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: wait(admin.delete_topics([topic])))


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

    def becomes(value):
        # A broker answers from its image of the metadata, which follows the controller's.
        eventually(lambda: configs()["retention.ms"].value == value, f"retention.ms is not {value}")

    alter("retention.ms", "3600000", AlterConfigOpType.SET)
    becomes("3600000")
    assert configs()["max.message.bytes"].value == "2000000", "a change of one key changed another"
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    becomes("604800000")
    for name, value in (("retention.ms", "a while"), ("retention.millis", "1"), ("max.message.bytes", "-5")):
        refused(KafkaError.INVALID_CONFIG, alter, name, value, AlterConfigOpType.SET)

    broker = next(iter(admin.list_topics(timeout=PATIENCE).brokers))
    (entries,) = wait(admin.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))])).values()
    for name in ("log.dirs", "num.partitions", "message.max.bytes"):
        assert name in entries, f"{name} is missing among {sorted(entries)}"


@scenario
def a_compacted_topic_keeps_the_last_value_of_every_key():
    topic = create(1, cleanup_policy="compact", segment_bytes=1048576, min_cleanable_dirty_ratio=0.01)
    keys, rounds, filling = 40, 12, b"." * 4000
    writers = [producer(codec, linger_ms=20, batch_num_messages=25) for codec in ("none", "zstd", "lz4")]
    written = []
    for number in range(rounds):
        records = [
            {"topic": topic, "partition": 0, "key": b"%d" % key, "value": b"%d %d " % (number, key) + os.urandom(2000) + filling}
            for key in range(keys)
        ]
        # Tombstones, and a key of each round that never comes again.
        records += [{"topic": topic, "partition": 0, "key": b"gone", "value": None if number == 3 else b"soon" * 1000}] * (number < 4)
        records += [{"topic": topic, "partition": 0, "key": b"once %d" % number, "value": os.urandom(5000)}]
        written += write(writers[number % 3], records)
    by_offset = {record.offset: record for record in written}
    last = {record.key: record for record in written}
    # Whatever follows makes segments roll, and of the segments before only the last of each key stays.
    for _ in range(3):
        write(writers[0], [{"topic": topic, "partition": 0, "key": b"after", "value": os.urandom(9000)} for _ in range(150)])

    def present():
        low, high = reader([]).get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE)
        assert low == 0, low
        reading, found = reader([(topic, 0, 0)], enable_partition_eof=False), []
        deadline = time.monotonic() + PATIENCE
        while not found or found[-1].offset < high - 1:
            assert time.monotonic() < deadline, f"{len(found)} records"
            found += poll(reading, 0.5)
        close(reading)
        return found

    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        found = present()
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets)), "out of order"
        ours = [record for record in found if record.key != b"after"]
        for record in ours:
            before = by_offset[record.offset]
            assert (record.key, record.value, record.timestamp) == (before.key, before.value, before.timestamp)
        newest = {record.key: record for record in ours}
        assert {key: record.offset for key, record in newest.items()} == {key: record.offset for key, record in last.items()}
        if len(ours) == len(last):
            break
        assert time.monotonic() < deadline, f"{len(ours)} records of {len(last)} keys are left"
        time.sleep(0.5)
    assert newest[b"gone"].value is None


@scenario
def offsets_for_times_and_watermarks():
    topic = create()
    now = int(time.time() * 1000)
    writer = producer(linger_ms=0)
    for batch in range(10):
        records = [
            {"topic": topic, "partition": 0, "value": b"x", "timestamp": now - 10_000 + batch * 1000 + index * 10}
            for index in range(10)
        ]
        write(writer, records)
    asking = reader([])
    assert asking.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE) == (0, 100)

    def offset_at(stamp):
        (found,) = asking.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=PATIENCE)
        return found.offset

    assert offset_at(0) == 0
    assert offset_at(now - 10_000) == 0
    assert offset_at(now - 10_000 + 3000 + 41) == 35, "the first record that is not older, inside a batch"
    assert offset_at(now - 10_000 + 3000 + 91) == 40, "the first of the next batch"
    assert offset_at(now - 910) == 100 - 1
    assert offset_at(now + 1) == OFFSET_END
    asking.close()
    admin = AdminClient(client())
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99)):
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
            asked = {TopicPartition(topic, 0): spec}
            (found,) = wait(admin.list_offsets(asked, isolation_level=level)).values()
            assert found.offset == offset, (spec, found)


@scenario
def a_topic_is_created_by_its_first_producer():
    topic = f"librdkafka-auto-{uuid.uuid4().hex[:12]}"
    (record,) = write(producer(), [{"topic": topic, "value": b"first"}])
    assert record.offset == 0
    assert read(topic, 1, record.partition)[0].value == b"first"

    topic = f"librdkafka-absent-{uuid.uuid4().hex[:12]}"
    asking = reader([], allow_auto_create_topics=False)
    for _ in range(2):
        described = asking.list_topics(topic, timeout=PATIENCE).topics[topic]
        assert described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, described.error
    asking.close()
    assert topic not in AdminClient(client()).list_topics(timeout=PATIENCE).topics


@scenario
def a_deleted_topic_comes_back_empty():
    topic = create()
    admin = AdminClient(client())
    write(producer(), [{"topic": topic, "value": b"old"}] * 10)
    wait(admin.delete_topics([topic]))

    def is_created():
        try:
            wait(admin.create_topics([NewTopic(topic, 1, 1)]))
        except KafkaException as error:
            assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
            return False
        return True

    eventually(is_created, "the topic is still there")
    (record,) = write(producer(), [{"topic": topic, "value": b"new"}])
    assert record.offset == 0
    assert [record.value for record in read(topic, 1)] == [b"new"]


@scenario
def acknowledged_records_survive_kill_and_restart():
    """Writes on through a kill -9 and a restart; the test does these when it has read the line, and answers when done."""
    topic = create()
    writer = producer(enable_idempotence=True, linger_ms=0)
    acknowledged, failed = [], []

    def on_delivery(error, message):
        failed.append(error) if error else acknowledged.append((message.offset(), int(message.value())))

    sent = 0
    for line in ("kill me", "stop me"):
        mark = len(acknowledged) + 200
        answered, after = None, None
        while after is None or len(acknowledged) < after:
            writer.produce(topic, str(sent), partition=0, on_delivery=on_delivery)
            sent += 1
            writer.poll(0.001)
            if answered is None and len(acknowledged) >= mark:
                answered = harness.say(line)
            if after is None and answered is not None and answered.is_set():
                after = len(acknowledged) + 200
    finish(writer)
    assert not failed, failed[:5]
    assert acknowledged == [(index, index) for index in range(sent)], "acknowledged out of order, or not at its offset"
    records = read(topic, sent)
    assert_dense(records)
    assert [int(record.value) for record in records] == list(range(sent)), "lost, doubled or reordered"


class Member:
    """A consumer of a group; `poll` is its turn."""

    def __init__(self, topic, group, **settings):
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300, **settings}
        self.consumer = Consumer(client(group_id=group, **settings))
        self.consumer.subscribe([topic])
        self.read = []

    def poll(self):
        self.read += poll(self.consumer, 0.1)
        return {partition.partition for partition in self.consumer.assignment()}


def members_share(topic, **settings):
    group = f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), [{"topic": topic, "partition": number % 4, "value": str(number).encode()} for number in range(40)])
    first = Member(topic, group, **settings)
    eventually(lambda: first.poll() and len(first.read) == 40, "not everything was read")
    first.consumer.commit(asynchronous=False)
    second = Member(topic, group, **settings)

    def do_share():
        one, other = first.poll(), second.poll()
        return len(one) == len(other) == 2 and not one & other

    eventually(do_share, "they do not share")
    first.consumer.close()
    eventually(lambda: second.poll() == {0, 1, 2, 3}, "nobody takes over")
    write(producer(), [{"topic": topic, "partition": partition, "value": b"later"} for partition in range(4)])
    eventually(lambda: second.poll() and len(second.read) == 4, "what was committed is read again, or lost")
    assert [record.value for record in second.read] == [b"later"] * 4
    second.consumer.close()


@scenario
def members_of_a_group_share_the_partitions_and_take_over():
    members_share(create(4), partition_assignment_strategy="range,roundrobin")


@scenario
def members_of_a_cooperative_group_share_and_take_over():
    members_share(create(4), partition_assignment_strategy="cooperative-sticky")


@scenario
def a_static_member_comes_back_without_a_rebalance():
    topic, group = create(2), f"group-{uuid.uuid4().hex[:12]}"
    other = Member(topic, group, group_instance_id="other")
    member = Member(topic, group, group_instance_id="static")
    eventually(lambda: len(other.poll()) == len(member.poll()) == 1, "they do not share")
    before = member.poll()
    # A static member that closes does not leave.
    member.consumer.close()
    assert len(other.poll()) == 1
    member = Member(topic, group, group_instance_id="static")
    eventually(lambda: other.poll() and member.poll() == before, "it has not what it had")
    assert len(other.poll()) == 1
    member.consumer.close()
    other.consumer.close()


def be_a_member(topic, group):
    """A process of its own, to be stopped and killed. It says how many partitions it has when that changes."""
    member = Member(topic, group, session_timeout_ms=SESSION_TIMEOUT_MS)
    said = 0
    while True:
        assigned = len(member.poll())
        if assigned != said:
            said = assigned
            print(said, flush=True)


@scenario
def a_member_that_stalls_and_at_last_crashes_is_replaced():
    topic, group = create(4), f"group-{uuid.uuid4().hex[:12]}"
    steady = Member(topic, group)
    eventually(lambda: len(steady.poll()) == 4, "it has not all partitions")
    unsteady = harness.Process("member", topic, group)

    def both():
        return len(steady.poll()) == 2 and unsteady.last == "2"

    eventually(both, "they do not share")
    unsteady.signal(signal.SIGSTOP)
    eventually(lambda: len(steady.poll()) == 4, "a member that stalls keeps its partitions")
    write(producer(), [{"topic": topic, "partition": partition, "value": b"later"} for partition in range(4)])
    eventually(lambda: steady.poll() and len(steady.read) == 4, "records of a member that stalls are not read")
    steady.consumer.commit(asynchronous=False)
    unsteady.signal(signal.SIGCONT)
    eventually(both, "a member does not come back")

    unsteady.signal(signal.SIGKILL)
    eventually(lambda: len(steady.poll()) == 4, "a member that crashed keeps its partitions")
    write(producer(), [{"topic": topic, "partition": partition, "value": b"last"} for partition in range(4)])
    eventually(lambda: steady.poll() and len(steady.read) >= 8, "later records are not read")
    assert [record.value for record in steady.read[4:]] == [b"last"] * 4, "what was committed is read again"
    steady.consumer.close()


def read_in_group(topic, group, count, **settings):
    """Reads count records as a member that commits nothing, and leaves; returns the offsets of each partition."""
    member = Member(topic, group, **settings)
    eventually(lambda: member.poll() and len(member.read) >= count, "not everything is read")
    member.consumer.close()
    offsets = {}
    for record in member.read:
        offsets.setdefault(record.partition, []).append(record.offset)
    return offsets


def numbered(topic, partitions, count):
    return [
        {"topic": topic, "partition": partition, "value": str(number).encode()}
        for partition in range(partitions)
        for number in range(count)
    ]


@scenario
def a_group_goes_on_where_it_committed():
    topic, group = create(2), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 2, 10))
    simple = reader([(topic, 0, None), (topic, 1, None)], group_id=group)
    both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]

    def committed():
        return [(at.offset, at.metadata, at.leader_epoch) for at in simple.committed(both, timeout=PATIENCE)]

    def is_answered():
        """Unlike commit(), committed() does not try again while a coordinator is being set up."""
        try:
            return committed()
        except KafkaException as error:
            assert error.args[0].code() in (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS), error

    eventually(is_answered, "there is no coordinator")
    assert [offset for offset, _, _ in committed()] == [OFFSET_INVALID] * 2
    places = [TopicPartition(topic, 0, 7, "seven ☃", 0), TopicPartition(topic, 1, 4)]
    simple.commit(offsets=places, asynchronous=False)
    # librdkafka shows metadata that are empty as none.
    assert committed() == [(7, "seven ☃", 0), (4, None, None)], committed()
    long = TopicPartition(topic, 0, 8, "x" * 4097)
    refused(KafkaError.OFFSET_METADATA_TOO_LARGE, simple.commit, offsets=[long], asynchronous=False)

    assert read_in_group(topic, group, 3 + 6) == {0: [7, 8, 9], 1: [4, 5, 6, 7, 8, 9]}
    # Nothing was committed: it comes again, and is committed now.
    member = Member(topic, group)
    eventually(lambda: member.poll() and len(member.read) == 3 + 6, "not everything came again")
    member.consumer.commit(asynchronous=False)
    member.consumer.close()
    assert [offset for offset, _, _ in committed()] == [10, 10]
    simple.close()
    write(producer(), numbered(topic, 2, 1))
    assert read_in_group(topic, group, 2) == {0: [10], 1: [10]}


@scenario
def a_member_seeks_back_and_forth():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 1, 10))
    member = Member(topic, group)
    eventually(lambda: member.poll() and len(member.read) == 10, "not everything was read")
    for place in (3, 9, 0):
        member.read = []
        member.consumer.seek(TopicPartition(topic, 0, place))
        eventually(lambda: member.poll() and len(member.read) == 10 - place, "nothing is read from there on")
        assert_dense(member.read, place)
    member.consumer.close()


@scenario
def a_group_starts_where_it_is_reset_to():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 1, 10))
    assert read_in_group(topic, group + "-start", 10) == {0: list(range(10))}
    refused(KafkaError._AUTO_OFFSET_RESET, read_in_group, topic, group + "-none", 1, auto_offset_reset="error")
    # What is committed, and is not there.
    admin = AdminClient(client())
    beyond = ConsumerGroupTopicPartitions(group + "-beyond", [TopicPartition(topic, 0, 1000)])
    wait(admin.alter_consumer_group_offsets([beyond]))
    assert read_in_group(topic, group + "-beyond", 10) == {0: list(range(10))}
    end = Member(topic, group + "-end", auto_offset_reset="latest")
    eventually(end.poll, "it has no partition")

    def is_read():
        write(producer(), numbered(topic, 1, 1))
        return end.poll() and end.read

    eventually(is_read, "nothing is read behind the end")
    assert end.read[0].offset >= 10, "what was before the end is read"
    end.consumer.close()


@scenario
def groups_are_listed_described_changed_and_deleted():
    topic, group = create(2), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 2, 5))
    settings = {"partition_assignment_strategy": "range", "group_instance_id": "one", "client_id": "described"}
    member = Member(topic, group, **settings)
    eventually(lambda: member.poll() and len(member.read) == 10, "not everything was read")
    member.consumer.commit(asynchronous=False)
    admin = AdminClient(client())

    def is_listed(state):
        listed = admin.list_consumer_groups(states={state}).result(PATIENCE).valid
        return group in [one.group_id for one in listed]

    def describe():
        return wait(admin.describe_consumer_groups([group]))[group]

    assert is_listed(ConsumerGroupState.STABLE) and not is_listed(ConsumerGroupState.EMPTY)
    described = describe()
    assert (described.state, described.partition_assignor) == (ConsumerGroupState.STABLE, "range")
    (one,) = described.members
    assert (one.member_id, one.group_instance_id, one.client_id) == (member.consumer.memberid(), "one", "described")
    assert [part.partition for part in one.assignment.topic_partitions] == [0, 1]

    move = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 1, 2)])
    refused(KafkaError.NON_EMPTY_GROUP, lambda: wait(admin.delete_consumer_groups([group])))
    (altered,) = wait(admin.alter_consumer_group_offsets([move])).values()
    assert altered.topic_partitions[0].error.code() == KafkaError.UNKNOWN_MEMBER_ID, altered
    # A static member that closes does not leave: its session ends, and its partitions are nobody's.
    member.consumer.close()
    assert describe().state == ConsumerGroupState.STABLE
    again = Member(topic, group, **{**settings, "session_timeout_ms": SESSION_TIMEOUT_MS})
    eventually(lambda: again.poll(), "it does not come back")
    again.consumer.close()
    eventually(lambda: is_listed(ConsumerGroupState.EMPTY), "the group is not empty")
    wait(admin.alter_consumer_group_offsets([move]))
    (offsets,) = wait(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).values()
    assert {at.partition: at.offset for at in offsets.topic_partitions} == {0: 5, 1: 2}, offsets
    wait(admin.delete_consumer_groups([group]))
    refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: wait(admin.delete_consumer_groups([group])))
    assert not is_listed(ConsumerGroupState.EMPTY)


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


harness.main(write_for_others, read_from_others, be_a_member)
