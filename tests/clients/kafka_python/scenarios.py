"""kafka-python 3 and 2: one function per scenario; `scenarios.py BOOTSTRAP SCENARIO...` runs them, at once.

A scenario fails by an exception. It uses topics of its own, and assigns partitions explicitly unless it is about groups.
Those that mean the same to other clients are in `../python/shared.py`.
"""

import os
import signal
import sys
import threading
import time
import uuid

import kafka
import kafka.admin
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewPartitions, NewTopic
from kafka.errors import (
    CommitFailedError,
    GroupIdNotFoundError,
    InvalidPartitionsError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    NoError,
    NoOffsetForPartitionError,
    NonEmptyGroupError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "python"))
import harness  # noqa: E402, as the next two: beside the lock files that all Python clients share
import interop  # noqa: E402
import shared  # noqa: E402
from harness import PATIENCE, REPLICATION, Record, assert_dense, eventually, scenario, take  # noqa: E402

BOOTSTRAP = sys.argv[1]
MAJOR = int(kafka.__version__.split(".")[0])
if MAJOR > 2:
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
# The session timeout of members that are going to miss it. All others have the client's default, far longer.
SESSION_TIMEOUT_MS = 2000
TOPIC = kafka.admin.ConfigResourceType.TOPIC

# What the shared scenarios ask for.
FURTHER_NULLS = []
ACKNOWLEDGEMENTS_TELL_THE_TIME = True
LARGE_REQUESTS = {"max_request_size": 1_500_000}
SMALL_FETCHES = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
LONG_WAITS = {"fetch_max_wait_ms": 20_000}
# Longer than a poll.
SHORT_POLLS = {"max_poll_interval_ms": 5000, "session_timeout_ms": 5000}
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
    new = NewTopic(name=name, num_partitions=partitions, replication_factor=REPLICATION, topic_configs=configs)
    client = admin()
    client.create_topics([new])
    # A broker may tell of a decision a moment after it was made.
    eventually(lambda: name in client.list_topics(), "the topic is not there")
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
    producer.flush(PATIENCE)
    try:
        producer.close(timeout=PATIENCE)
    except AttributeError:
        # Version 2 wakes its sender through a socket that the sender, told to stop just before,
        # may have closed and forgotten by then.
        assert not producer._sender._running


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


class OnRevoked(ConsumerRebalanceListener):
    def __init__(self, on_revoked):
        self.on_revoked = on_revoked

    def on_partitions_revoked(self, revoked):
        for at in revoked:
            self.on_revoked(at.partition)

    def on_partitions_assigned(self, assigned):
        pass


def subscribed(topic, group, on_revoked, **settings):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300, **settings}
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group, reconnect_backoff_max_ms=500, **settings)
    consumer.subscribe([topic], listener=OnRevoked(on_revoked))
    return consumer


def poll_in_group(reader):
    """Not shorter: a member of kafka-python 3 whose polls are shorter than a join takes may never join, on any broker."""
    try:
        return poll(reader, 2)
    except KafkaError as error:
        if not error.retriable:
            raise
        return []


def try_commit(reader, topic, offsets):
    places = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
    try:
        reader.commit(places)
    except CommitFailedError:
        return False
    except KafkaError as error:
        assert error.retriable, error
        return None
    return True


def committed(topic, group):
    client = admin()
    offsets = client.list_consumer_group_offsets(group) if MAJOR == 2 else client.list_group_offsets([group])[group]
    client.close()
    return {at.partition: found.offset for at, found in offsets.items()}


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


class Member(threading.Thread, ConsumerRebalanceListener):
    """A consumer of a group, at work in a thread of its own until it is told to leave. It commits what it has read."""

    def __init__(self, topic, group, **settings):
        super().__init__(daemon=True)
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 300, **settings}
        self.consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group, **settings)
        self.assigned, self.given, self.read, self.is_leaving = set(), 0, [], False
        self.consumer.subscribe([topic], listener=self)
        self.start()

    def run(self):
        while not self.is_leaving:
            read = poll_in_group(self.consumer)
            if read:
                try:
                    self.consumer.commit()
                except CommitFailedError:
                    # What it read before it stalled, and others have read meanwhile, is not its any more.
                    read = []
            self.read += read
        self.consumer.close()

    def on_partitions_revoked(self, revoked):
        self.assigned = self.assigned - {partition.partition for partition in revoked}

    def on_partitions_assigned(self, assigned):
        self.assigned = self.assigned | {partition.partition for partition in assigned}
        self.given += len(assigned)

    def leave(self):
        self.is_leaving = True
        self.join(PATIENCE)
        assert not self.is_alive(), "it does not leave"


def numbered(topic, partitions, count):
    return [
        {"topic": topic, "partition": partition, "value": str(number).encode()}
        for partition in range(partitions)
        for number in range(count)
    ]


def share(one, other, partitions):
    def do_share():
        first, second = one.assigned, other.assigned
        return len(first) == len(second) == partitions // 2 and not first & second

    eventually(do_share, "they do not share")


def members_share(kept, **settings):
    """`kept`: how many partitions the first one keeps while the second one joins."""
    topic, group = create(4), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 4, 10))
    first = Member(topic, group, **settings)
    eventually(lambda: len(first.read) == 40, "not everything was read")
    second = Member(topic, group, **settings)
    share(first, second, 4)
    assert first.given == 4 + 2 - kept, first.given
    first.leave()
    eventually(lambda: len(second.assigned) == 4, "nobody takes over")
    write(producer(), numbered(topic, 4, 1))
    eventually(lambda: len(second.read) >= 4, "what was not committed is lost")
    second.leave()
    assert [record.offset for record in second.read] == [10] * 4, "what was committed is read again"


@scenario
def members_of_a_group_share_the_partitions_and_take_over():
    members_share(0)


if MAJOR > 2:

    @scenario
    def members_of_a_cooperative_group_share_and_take_over():
        members_share(2, partition_assignment_strategy=[CooperativeStickyAssignor])


@scenario
def a_static_member_comes_back_without_a_rebalance():
    topic, group = create(2), f"group-{uuid.uuid4().hex[:12]}"
    other = Member(topic, group, group_instance_id="other")
    # Of two that come at once, kafka-python 3 may leave one without an answer, on any broker.
    eventually(lambda: len(other.assigned) == 2, "it has not all partitions")
    static = Member(topic, group, group_instance_id="static")
    share(other, static, 2)
    before, given = static.assigned, other.given
    # A static member that closes does not leave.
    static.leave()
    static = Member(topic, group, group_instance_id="static")
    eventually(lambda: static.assigned == before, "it has not what it had")
    assert other.given == given
    static.leave()
    other.leave()


def be_a_member(topic, group):
    """A process of its own, to be stopped and killed. It says how many partitions it has when that changes."""
    member = Member(topic, group, session_timeout_ms=SESSION_TIMEOUT_MS)
    said = 0
    while True:
        assigned = len(member.assigned)
        if assigned != said:
            said = assigned
            print(said, flush=True)
        time.sleep(0.02)


@scenario
def a_member_that_stalls_and_at_last_crashes_is_replaced():
    topic, group = create(4), f"group-{uuid.uuid4().hex[:12]}"
    steady = Member(topic, group)
    eventually(lambda: len(steady.assigned) == 4, "it has not all partitions")
    unsteady = harness.Process("member", topic, group)

    def both():
        return len(steady.assigned) == 2 and unsteady.last == "2"

    eventually(both, "they do not share")
    unsteady.signal(signal.SIGSTOP)
    eventually(lambda: len(steady.assigned) == 4, "a member that stalls keeps its partitions")
    write(producer(), numbered(topic, 4, 1))
    eventually(lambda: len(steady.read) == 4, "records of a member that stalls are not read")
    unsteady.signal(signal.SIGCONT)
    eventually(both, "a member does not come back")

    unsteady.signal(signal.SIGKILL)
    eventually(lambda: len(steady.assigned) == 4, "a member that crashed keeps its partitions")
    steady.leave()
    assert len(steady.read) == 4, "what was committed is read again"


def read_in_group(topic, group, count, **settings):
    """Reads count records as a member that commits nothing, and leaves; returns their offsets."""
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **settings}
    member = KafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=group, **settings)
    records = take(lambda: poll_in_group(member), count)
    member.close()
    return [record.offset for record in records]


def commit(group, partition, offset):
    """Commits for a group without members, as a consumer that has assigned itself its partition."""
    simple = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group, enable_auto_commit=False)
    simple.assign([partition])
    assert simple.committed(partition) is None
    simple.seek(partition, offset)
    simple.commit()
    assert simple.committed(partition) == offset
    simple.close()


@scenario
def a_group_goes_on_where_it_committed():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 1, 10))
    partition = TopicPartition(topic, 0)
    commit(group, partition, 7)
    assert read_in_group(topic, group, 3) == [7, 8, 9]
    # Nothing was committed: it comes again, and is committed now.
    member = Member(topic, group)
    eventually(lambda: len(member.read) == 3, "not the rest was read")
    member.leave()
    assert [record.offset for record in member.read] == [7, 8, 9]
    client = admin()
    offsets = client.list_consumer_group_offsets(group) if MAJOR == 2 else client.list_group_offsets([group])[group]
    assert offsets[partition].offset == 10, offsets
    client.close()


@scenario
def a_member_seeks_back_and_forth():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    partition = TopicPartition(topic, 0)
    write(producer(), numbered(topic, 1, 10))
    member = KafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest")
    assert_dense(take(lambda: poll_in_group(member), 10))
    for place in (3, 9, 0):
        member.seek(partition, place)
        assert_dense(take(lambda: poll_in_group(member), 10 - place), place)
    member.seek_to_end(partition)
    assert member.position(partition) == 10
    member.close()


@scenario
def a_group_starts_where_it_is_reset_to():
    topic, group = create(), f"group-{uuid.uuid4().hex[:12]}"
    partition = TopicPartition(topic, 0)
    write(producer(), numbered(topic, 1, 10))
    assert read_in_group(topic, group + "-start", 10) == list(range(10))
    refused(NoOffsetForPartitionError, lambda: read_in_group(topic, group + "-none", 1, auto_offset_reset="none"))
    # What is committed, and is not there.
    commit(group + "-beyond", partition, 1000)
    assert read_in_group(topic, group + "-beyond", 10) == list(range(10))
    end = Member(topic, group + "-end", auto_offset_reset="latest")

    def is_read():
        write(producer(), numbered(topic, 1, 1))
        return end.read

    eventually(is_read, "nothing is read behind the end")
    end.leave()
    assert end.read[0].offset >= 10, "what was before the end is read"


@scenario
def groups_are_listed_described_changed_and_deleted():
    topic, group = create(2), f"group-{uuid.uuid4().hex[:12]}"
    write(producer(), numbered(topic, 2, 5))
    member = Member(topic, group, client_id="described")
    eventually(lambda: len(member.read) == 10, "not everything was read")
    client = admin()

    def is_listed():
        if MAJOR == 2:
            return group in [name for name, _ in client.list_consumer_groups()]
        return group in [listed["group_id"] for listed in client.list_groups()]

    def describe():
        """The state, and the names of the members' clients."""
        if MAJOR == 2:
            (described,) = client.describe_consumer_groups([group])
            return described.state, [member.client_id for member in described.members]
        described = client.describe_groups([group])[group]
        return described["group_state"], [member["client_id"] for member in described["members"]]

    def delete():
        """What became of it."""
        if MAJOR == 2:
            ((_, error),) = client.delete_consumer_groups([group])
            return error
        return client.delete_groups([group])[group]

    assert is_listed()
    assert describe() == ("Stable", ["described"]), describe()
    assert is_error(delete(), NonEmptyGroupError)
    member.leave()
    assert describe() == ("Empty", [])
    if MAJOR > 2:
        one = TopicPartition(topic, 1)
        client.alter_group_offsets(group, {one: OffsetAndMetadata(2, "", -1)})
        client.delete_group_offsets(group, [TopicPartition(topic, 0)])
        offsets = client.list_group_offsets([group])[group]
        assert {at: found.offset for at, found in offsets.items()} == {one: 2}, offsets
    assert is_error(delete(), NoError)
    assert is_error(delete(), GroupIdNotFoundError)
    assert not is_listed()
    client.close()


def is_error(found, expected):
    """kafka-python 3 names some errors, where 2 gives their class."""
    return found is expected or found in (expected.__name__, "OK" if expected is NoError else expected.message)


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
