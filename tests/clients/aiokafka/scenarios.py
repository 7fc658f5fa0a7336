"""aiokafka: one coroutine per scenario; `scenarios.py BOOTSTRAP SCENARIO...` runs them, all at once.

A scenario fails by an exception, uses topics of its own, and has an event loop of its own.
"""

import asyncio
import functools
import logging
import os
import signal
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, NoOffsetForPartitionError, UnknownMemberIdError

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "python"))
import harness  # noqa: E402, as the next two: beside the lock files that all Python clients share
import interop  # noqa: E402
from harness import PATIENCE, REPLICATION, assert_dense  # noqa: E402

BOOTSTRAP = sys.argv[1]
# The session timeout of members that are going to miss it. All others have the client's default, far longer.
SESSION_TIMEOUT_MS = 2000
logging.disable()


def scenario(coroutine):
    """Makes it a scenario, with an event loop of its own."""

    @functools.wraps(coroutine)
    def run():
        asyncio.run(coroutine())

    return harness.scenario(run)


async def eventually(condition, otherwise):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.02)


class Admin(AIOKafkaAdminClient):
    """An admin client for a block."""

    def __init__(self):
        super().__init__(bootstrap_servers=BOOTSTRAP)

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def has(self, topic, partitions):
        """Waits until the broker tells of a decision, which may be a moment after it was made."""
        deadline = time.monotonic() + PATIENCE
        while True:
            (described,) = await self.describe_topics([topic])
            if len(described["partitions"]) == partitions:
                return
            assert time.monotonic() < deadline, described
            await asyncio.sleep(0.02)


async def create(partitions=1):
    """A new topic; returns its name."""
    name = f"aiokafka-{uuid.uuid4().hex[:12]}"
    async with Admin() as admin:
        await admin.create_topics([NewTopic(name=name, num_partitions=partitions, replication_factor=REPLICATION)])
        await admin.has(name, partitions)
    return name


async def write(records, codec=None):
    """Writes dicts of send()'s arguments, and returns what was acknowledged, in their order."""
    async with AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP, compression_type=codec, enable_idempotence=True, linger_ms=20
    ) as producer:
        sent = [await producer.send(**record) for record in records]
        return await asyncio.wait_for(asyncio.gather(*sent), PATIENCE)


async def spread(topic, partitions, count):
    """Writes count records to each partition."""
    records = [
        {"topic": topic, "partition": partition, "value": b"%d" % index}
        for partition in range(partitions)
        for index in range(count)
    ]
    await write(records)


def consumer(*topics, **settings):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 200, **settings}
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=BOOTSTRAP, heartbeat_interval_ms=300, retry_backoff_ms=20, **settings
    )


async def take(reader, count):
    """`count` records of a consumer."""
    records = []
    deadline = time.monotonic() + PATIENCE
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records"
        for batch in (await reader.getmany(timeout_ms=100)).values():
            records += batch
    assert len(records) == count, f"{len(records)} records instead of {count}"
    return records


async def refused(error, awaitable):
    try:
        await awaitable
    except error:
        return
    raise AssertionError(f"no {error}")


async def read(topic, count):
    reader = consumer()
    await reader.start()
    reader.assign([TopicPartition(topic, 0)])
    records = await take(reader, count)
    await reader.stop()
    return records


@scenario
async def every_codec_comes_back():
    topic = await create()
    expected = []
    for codec in interop.CODECS:
        records = [
            {
                "topic": topic,
                "partition": 0,
                "key": None if index % 10 == 0 else f"{codec}-{index}".encode(),
                "value": None if index % 10 == 1 else f"{codec} {index} ".encode() * 50,
                "headers": [("codec", codec.encode())],
            }
            for index in range(200)
        ]
        acknowledged = await write(records, None if codec == "none" else codec)
        assert_dense(acknowledged, len(expected))
        expected += records
    records = await read(topic, len(expected))
    assert_dense(records)
    for record, sent in zip(records, expected):
        assert (record.key, record.value, list(record.headers)) == (sent["key"], sent["value"], sent["headers"])


@scenario
async def topics_are_created_grown_and_deleted():
    topic = await create(2)
    async with Admin() as admin:

        async def code_of(new):
            """aiokafka gives the answers as they are."""
            ((_, code, _),) = (await admin.create_topics([new])).topic_errors
            return code

        assert await code_of(NewTopic(name=topic, num_partitions=2, replication_factor=1)) == 36
        assert await code_of(NewTopic(name="a/b", num_partitions=1, replication_factor=1)) == 17
        assert await code_of(NewTopic(name=topic + "-3", num_partitions=1, replication_factor=3)) == 38
        await admin.create_partitions({topic: NewPartitions(total_count=5)})
        await admin.has(topic, 5)
        await admin.delete_topics([topic])
        deadline = time.monotonic() + PATIENCE
        while topic in await admin.list_topics():
            assert time.monotonic() < deadline, "the topic is still there"


@scenario
async def configs_are_described_and_altered():
    topic = await create()
    async with Admin() as admin:

        async def becomes(value):
            deadline = time.monotonic() + PATIENCE
            while True:
                (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
                (described,) = response.resources
                found = {entry[0]: entry[1] for entry in described[4]}["retention.ms"]
                if found == value:
                    return
                assert time.monotonic() < deadline, found

        await becomes("604800000")
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "3600000"})])
        await becomes("3600000")


class Member(ConsumerRebalanceListener):
    """A consumer of a group, at work in a task of its own until it leaves. It commits what it has read."""

    @classmethod
    async def join(cls, topic, group, **settings):
        self = cls()
        self.consumer = consumer(group_id=group, **settings)
        self.assigned, self.given, self.read, self.is_leaving = set(), 0, [], False
        self.consumer.subscribe([topic], listener=self)
        await self.consumer.start()
        self.task = asyncio.create_task(self.work())
        return self

    async def work(self):
        while not self.is_leaving:
            read = [record for batch in (await self.consumer.getmany(timeout_ms=100)).values() for record in batch]
            if read:
                try:
                    await self.consumer.commit()
                except (CommitFailedError, IllegalStateError, UnknownMemberIdError):
                    # What it read before it stalled, and others have read meanwhile, is not its any more.
                    read = []
            self.read += read

    async def on_partitions_revoked(self, revoked):
        self.assigned -= {partition.partition for partition in revoked}

    async def on_partitions_assigned(self, assigned):
        self.assigned |= {partition.partition for partition in assigned}
        self.given += len(assigned)

    async def leave(self):
        self.is_leaving = True
        await asyncio.wait_for(self.task, PATIENCE)
        await self.consumer.stop()

    @property
    def generation(self):
        """No public name tells it."""
        return self.consumer._coordinator.generation


async def share(one, other, partitions):
    def do_share():
        return len(one.assigned) == len(other.assigned) == partitions // 2 and not one.assigned & other.assigned

    await eventually(do_share, "they do not share")


@scenario
async def members_of_a_group_share_the_partitions_and_take_over():
    for assignor in (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor):
        settings = {"partition_assignment_strategy": [assignor]}
        topic = await create(4)
        group = f"group-of-{topic}"
        await spread(topic, 4, 10)
        first = await Member.join(topic, group, **settings)
        await eventually(lambda: len(first.read) == 40, "not everything was read")
        second = await Member.join(topic, group, **settings)
        await share(first, second, 4)
        await first.leave()
        await eventually(lambda: len(second.assigned) == 4, "nobody takes over")
        await spread(topic, 4, 1)
        await eventually(lambda: len(second.read) >= 4, "later records are not read")
        await second.leave()
        assert [record.offset for record in second.read] == [10] * 4, "what was committed is read again"


@scenario
async def a_static_member_comes_back_without_a_rebalance():
    topic = await create(2)
    group = f"group-of-{topic}"
    other = await Member.join(topic, group, group_instance_id="other")
    static = await Member.join(topic, group, group_instance_id="static")
    await share(other, static, 2)
    before, generation, given = static.assigned, other.generation, other.given
    # A static member that closes does not leave.
    await static.leave()
    static = await Member.join(topic, group, group_instance_id="static")
    await eventually(lambda: static.assigned == before, "it has not what it had")
    assert (other.generation, other.given) == (generation, given)
    assert static.generation == generation
    await static.leave()
    await other.leave()


def be_a_member(topic, group):
    """A process of its own, to be stopped and killed. It says how many partitions it has when that changes."""

    async def be():
        member = await Member.join(topic, group, session_timeout_ms=SESSION_TIMEOUT_MS)
        said = 0
        while True:
            if len(member.assigned) != said:
                said = len(member.assigned)
                print(said, flush=True)
            await asyncio.sleep(0.02)

    asyncio.run(be())


@scenario
async def a_member_that_stalls_and_at_last_crashes_is_replaced():
    topic = await create(4)
    group = f"group-of-{topic}"
    steady = await Member.join(topic, group)
    await eventually(lambda: len(steady.assigned) == 4, "it has not all partitions")
    unsteady = harness.Process("member", topic, group)

    def both():
        return len(steady.assigned) == 2 and unsteady.last == "2"

    await eventually(both, "they do not share")
    unsteady.signal(signal.SIGSTOP)
    await eventually(lambda: len(steady.assigned) == 4, "a member that stalls keeps its partitions")
    await spread(topic, 4, 1)
    await eventually(lambda: len(steady.read) == 4, "records of a member that stalls are not read")
    unsteady.signal(signal.SIGCONT)
    await eventually(both, "a member does not come back")

    unsteady.signal(signal.SIGKILL)
    await eventually(lambda: len(steady.assigned) == 4, "a member that crashed keeps its partitions")
    await steady.leave()
    assert len(steady.read) == 4, "what was committed is read again"


class Survivor(ConsumerRebalanceListener):
    """A member of a group whose node goes away, at work in a task of its own until it leaves. It commits what it has read."""

    @classmethod
    async def join(cls, topic, group, ledger):
        self = cls()
        self.consumer, self.ledger = consumer(group_id=group), ledger
        # The ends of what was read and is not committed yet.
        self.pending, self.count, self.is_leaving = {}, 0, False
        self.consumer.subscribe([topic], listener=self)
        await self.consumer.start()
        self.task = asyncio.create_task(self.work())
        return self

    async def work(self):
        while not self.is_leaving or self.pending:
            try:
                await self.take()
                if self.pending:
                    await self.commit(dict(self.pending))
            except KafkaError as error:
                # Nobody has answered.
                assert error.retriable, error

    async def take(self):
        for partition, records in (await self.consumer.getmany(timeout_ms=100)).items():
            for record in records:
                self.ledger.read(record)
            self.pending[partition] = records[-1].offset + 1
            self.count += len(records)

    async def commit(self, ends):
        try:
            await self.consumer.commit(ends)
        except (CommitFailedError, IllegalStateError, UnknownMemberIdError):
            self.pending.clear()
        else:
            self.ledger.committed({at.partition: end for at, end in ends.items()})
            self.pending.clear()

    async def on_partitions_revoked(self, revoked):
        # Who has them now will read these again.
        for partition in revoked:
            self.pending.pop(partition, None)

    async def on_partitions_assigned(self, assigned):
        pass

    async def leave(self):
        self.is_leaving = True
        await asyncio.wait_for(self.task, PATIENCE)
        await self.consumer.stop()


@scenario
async def a_member_that_does_not_poll_is_replaced():
    topic = await create(2)
    group = f"group-of-{topic}"
    await spread(topic, 2, 1)
    busy = consumer(topic, group_id=group, max_poll_interval_ms=1_000)
    await busy.start()
    read = await take(busy, 2)
    other = await Member.join(topic, group)
    await eventually(lambda: len(other.read) == 2, "nobody takes over and reads what is not committed")
    ends = {TopicPartition(topic, record.partition): record.offset + 1 for record in read}
    await refused((CommitFailedError, IllegalStateError, UnknownMemberIdError), busy.commit(ends))
    await busy.stop()
    await other.leave()


@scenario
async def a_group_goes_on_through_kill_and_restart():
    """Reads, commits and writes on through a kill -9 and a restart, which the test does when it has read the line.

    Nobody writes to the last partition after that: what was committed of it must be there still.
    """
    topic = await create(5)
    group = f"group-of-{topic}"
    ledger, written = harness.Ledger(), 0
    first, second = [await Survivor.join(topic, group, ledger) for _ in range(2)]
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True) as producer:

        async def write_until(condition, otherwise, partitions=4):
            nonlocal written
            deadline = time.monotonic() + PATIENCE
            while True:
                sent = [await producer.send(topic, b"%d" % (written + at), partition=at) for at in range(partitions)]
                await asyncio.wait_for(asyncio.gather(*sent), PATIENCE)
                written += partitions
                for member in (first, second):
                    if member.task.done():
                        member.task.result()
                if condition():
                    return
                assert time.monotonic() < deadline, otherwise
                await asyncio.sleep(0.05)

        def both_read():
            before = first.count, second.count
            return lambda: first.count > before[0] and second.count > before[1]

        await write_until(both_read(), "they do not share", partitions=5)
        await eventually(lambda: ledger.is_all_committed(written), "not everything is committed")
        answered = harness.say("kill me")
        await write_until(answered.is_set, "the test does not answer")
        await write_until(both_read(), "they do not go on")
        await first.leave()
        await write_until(lambda: True, "")
        await eventually(lambda: ledger.has_read(written), "a record is lost")
        await second.leave()
    async with Admin() as admin:
        committed = await admin.list_consumer_group_offsets(group)
    assert {at.partition: found.offset for at, found in committed.items()} == ledger.next, (committed, ledger.next)


async def read_in_group(topic, group, count, **settings):
    """Reads count records as a member that commits nothing, and leaves; returns the offsets of each partition."""
    member = consumer(topic, group_id=group, **settings)
    await member.start()
    records = await take(member, count)
    await member.stop()
    offsets = {}
    for record in records:
        offsets.setdefault(record.partition, []).append(record.offset)
    return offsets


@scenario
async def a_group_goes_on_where_it_committed():
    topic = await create(2)
    group = f"group-of-{topic}"
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await spread(topic, 2, 10)
    simple = consumer(group_id=group)
    await simple.start()
    simple.assign([zero, one])
    assert await simple.committed(zero) is None
    await simple.commit({zero: (7, "seven ☃"), one: 4})
    assert (await simple.committed(zero), await simple.committed(one)) == (7, 4)
    await simple.stop()
    async with Admin() as admin:
        offsets = await admin.list_consumer_group_offsets(group)
        assert (offsets[zero].metadata, offsets[one].metadata) == ("seven ☃", ""), offsets

        assert await read_in_group(topic, group, 3 + 6) == {0: [7, 8, 9], 1: [4, 5, 6, 7, 8, 9]}
        # Nothing was committed: it comes again, and is committed now.
        member = await Member.join(topic, group)
        await eventually(lambda: len(member.read) == 3 + 6, "not everything came again")
        await member.leave()
        offsets = await admin.list_consumer_group_offsets(group)
        assert (offsets[zero].offset, offsets[one].offset) == (10, 10), offsets
    await spread(topic, 2, 1)
    assert await read_in_group(topic, group, 2) == {0: [10], 1: [10]}


@scenario
async def a_member_seeks_back_and_forth():
    topic = await create()
    partition = TopicPartition(topic, 0)
    await spread(topic, 1, 10)
    member = consumer(topic, group_id=f"group-of-{topic}")
    await member.start()
    assert_dense(await take(member, 10))
    for place in (3, 9, 0):
        member.seek(partition, place)
        assert_dense(await take(member, 10 - place), place)
    await member.seek_to_beginning(partition)
    assert_dense(await take(member, 10))
    await member.seek_to_end(partition)
    assert await member.position(partition) == 10
    await member.stop()


@scenario
async def a_group_starts_where_it_is_reset_to():
    topic = await create()
    partition = TopicPartition(topic, 0)
    await spread(topic, 1, 10)
    assert await read_in_group(topic, f"start-of-{topic}", 10) == {0: list(range(10))}
    none = consumer(topic, group_id=f"none-of-{topic}", auto_offset_reset="none")
    await none.start()
    await refused(NoOffsetForPartitionError, take(none, 1))
    await none.stop()
    # What is committed, and is not there.
    simple = consumer(group_id=f"beyond-{topic}")
    await simple.start()
    simple.assign([partition])
    await simple.commit({partition: 1000})
    await simple.stop()
    assert await read_in_group(topic, f"beyond-{topic}", 10) == {0: list(range(10))}
    end = consumer(topic, group_id=f"end-of-{topic}", auto_offset_reset="latest")
    await end.start()
    assert await end.position(partition) == 10
    await spread(topic, 1, 1)
    assert [record.offset for record in await take(end, 1)] == [10]
    await end.stop()


@scenario
async def groups_are_listed_and_described():
    topic = await create(2)
    group = f"group-of-{topic}"
    settings = {"partition_assignment_strategy": [RangePartitionAssignor], "client_id": "described"}
    member = await Member.join(topic, group, **settings)
    await eventually(lambda: len(member.assigned) == 2, "it has no partitions")
    async with Admin() as admin:

        async def describe():
            (response,) = await admin.describe_consumer_groups([group])
            ((code, name, state, kind, protocol, members, *_),) = response.groups
            assert (code, name) == (0, group)
            return state, kind, protocol, members

        assert group in [listed[0] for listed in await admin.list_consumer_groups()]
        state, kind, protocol, members = await describe()
        assert (state, kind, protocol) == ("Stable", "consumer", "range")
        ((member_id, *_),) = members
        assert member_id.startswith("described-"), member_id
        await member.leave()
        state, kind, _, members = await describe()
        assert (state, kind, members) == ("Empty", "consumer", [])


def write_for_others(topic):
    async def write_all():
        for codec in interop.CODECS:
            records = [
                {"topic": topic, "partition": 0, "timestamp_ms": timestamp, "key": key, "value": value, "headers": headers}
                for timestamp, key, value, headers in interop.records(codec)
            ]
            await write(records, None if codec == "none" else codec)

    asyncio.run(write_all())


def read_from_others(topic):
    for record in asyncio.run(read(topic, len(interop.CODECS) * interop.PER_CODEC)):
        interop.show(topic, record.offset, record.timestamp, record.key, record.value, record.headers)


harness.main(write_for_others, read_from_others, be_a_member)
