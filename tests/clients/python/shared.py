"""The scenarios that mean the same to every Python client.

`declare(client)` adds them to a client's own. A client is a module with

    create(partitions=1, **configs) -> topic
    producer(**settings)            settings of both clients: codec, acks, linger_ms, enable_idempotence
    write(producer, records)        dicts of topic, partition, key, value, headers, timestamp; returns what was acknowledged, with
                                    partition and offset, in their order
    reader(partitions, **settings)  of (topic, partition, offset); the offset may be None, the beginning, or END
    poll(reader, seconds)           a few harness.Record, or none
    close(reader)
    refused(error, call, *arguments)
    subscribed(topic, group, on_revoked, **settings)
                                    a reader that is a member of a group; on_revoked(partition) tells what it has lost
    poll_in_group(reader)           a few harness.Record, or none: also when nobody answers
    try_commit(reader, topic, offsets)      of partitions; returns whether they are committed, None when it may try again
    committed(topic, group)                 what is committed of partitions

and the constants named where they are used. What a client cannot do, or does in its own way, is a scenario of its own.
"""

import threading
import time
import uuid

from harness import PATIENCE, Ledger, assert_dense, eventually, or_end, say, scenario, take

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
END = "end"


def declare(client):
    def take_from(reader, count):
        return take(lambda: client.poll(reader, 0.2), count)

    def read(topic, count, partition=0, offset=None, **settings):
        """`count` records of a partition from an offset on."""
        reader = client.reader([(topic, partition, offset)], **settings)
        records = take_from(reader, count)
        client.close(reader)
        return records

    def numbered(topic, count, partitions=1):
        return [{"topic": topic, "partition": index % partitions, "value": str(index).encode()} for index in range(count)]

    @scenario
    def every_codec_comes_back():
        topic = client.create()
        expected = []
        for codec in CODECS:
            records = [
                {
                    "topic": topic,
                    "partition": 0,
                    "key": f"{codec}-{index}".encode(),
                    "value": f"{codec} {index} ".encode() * 50,
                    "headers": [("codec", codec.encode())],
                }
                for index in range(200)
            ]
            client.write(client.producer(codec=codec, linger_ms=50), records)
            expected += records
        records = read(topic, len(expected))
        assert_dense(records)
        for record, sent in zip(records, expected):
            assert (record.key, record.value, record.headers) == (sent["key"], sent["value"], sent["headers"])

    @scenario
    def keys_values_and_headers_may_be_null_or_empty():
        topic = client.create()
        records = [
            {"key": b"key", "value": None},
            {"key": b"", "value": b""},
            {"key": None, "value": b"value"},
            {"key": bytes(range(256)), "value": bytes(range(255, -1, -1))},
            {"value": b"1", "headers": [("empty", b""), ("binary", b"\x00\xff")]},
            {"value": b"2", "headers": [("same", b"1"), ("same", b"2"), ("", b"no name")]},
            {"value": "naïve ☃".encode(), "headers": [("ключ", "значение".encode())]},
            *client.FURTHER_NULLS,
        ]
        client.write(client.producer(), [{"topic": topic, "partition": 0, **record} for record in records])
        for record, sent in zip(read(topic, len(records)), records):
            assert (record.key, record.value) == (sent.get("key"), sent.get("value"))
            assert record.headers == sent.get("headers", [])

    @scenario
    def timestamps_are_the_producers_or_the_logs():
        now = int(time.time() * 1000)
        stamps = [now - 60_000, now - 10, now - 30_000, now]

        def write_all(topic, codec):
            records = [{"topic": topic, "partition": 0, "value": b"x" * 100, "timestamp": stamp} for stamp in stamps]
            return client.write(client.producer(codec=codec, linger_ms=50), records)

        topic = client.create()
        write_all(topic, "none")
        assert [(record.timestamp_type, record.timestamp) for record in read(topic, 4)] == [(0, stamp) for stamp in stamps]

        topic = client.create(message_timestamp_type="LogAppendTime")
        acknowledged = write_all(topic, "none") + write_all(topic, "lz4")
        for record, told in zip(read(topic, 8), acknowledged):
            assert record.timestamp_type == 1
            assert now - 1000 <= record.timestamp <= time.time() * 1000 + 1000, (record.timestamp, now)
            if client.ACKNOWLEDGEMENTS_TELL_THE_TIME:
                assert record.timestamp == told.timestamp, "the acknowledgement told another time"

    @scenario
    def records_of_one_byte_and_of_one_megabyte():
        topic = client.create()
        producer = client.producer(**client.LARGE_REQUESTS)
        sizes = [1, 1_000_000, 1, 1_048_000, 65_536, 1]
        values = [bytes([index]) * size for index, size in enumerate(sizes)]
        client.write(producer, [{"topic": topic, "partition": 0, "value": value} for value in values])
        # Limits far below a record: it must come nevertheless.
        for settings in ({}, client.SMALL_FETCHES):
            assert [record.value for record in read(topic, len(sizes), **settings)] == values
        too_large = {"topic": topic, "partition": 0, "value": b"x" * 1_200_000}
        client.refused(client.TOO_LARGE, client.write, producer, [too_large])
        client.write(client.producer(), [{"topic": topic, "partition": 0, "value": b"after"}])
        assert read(topic, 1, offset=len(sizes))[0].value == b"after"

    @scenario
    def idempotent_producer_writes_each_record_once_in_order():
        total = client.IDEMPOTENT_RECORDS
        topic = client.create(4)
        producer = client.producer(enable_idempotence=True, linger_ms=0, **client.SMALL_BATCHES)
        acknowledged = client.write(producer, numbered(topic, total, partitions=4))
        for partition in range(4):
            assert_dense([record for record in acknowledged if record.partition == partition])
            records = read(topic, total // 4, partition)
            assert_dense(records)
            assert [int(record.value) for record in records] == list(range(partition, total, 4))

    @scenario
    def every_level_of_acks():
        topic = client.create()
        for acks in client.ACKS:
            producer = client.producer(acks=acks, enable_idempotence=False)
            record = {"topic": topic, "partition": 0, "value": str(acks).encode()}
            acknowledged = client.write(producer, [record] * 100)
            if acks != 0:
                assert_dense(acknowledged, acknowledged[0].offset)
            client.finish(producer)
        records = read(topic, 100 * len(client.ACKS))
        assert_dense(records)
        assert [record.value for record in records] == [str(acks).encode() for acks in client.ACKS for _ in range(100)]

    @scenario
    def reading_starts_at_the_beginning_the_end_or_where_asked():
        topic = client.create()
        producer = client.producer()
        client.write(producer, numbered(topic, 50))
        assert_dense(read(topic, 50))
        at_end = client.reader([(topic, 0, END)])
        assert client.poll(at_end, 1.0) == [], "the end is not the end"
        client.write(producer, [{"topic": topic, "partition": 0, "value": b"50"}])
        assert [record.offset for record in take_from(at_end, 1)] == [50]
        client.close(at_end)
        # Out of range: auto.offset.reset decides.
        assert_dense(read(topic, 51, offset=1_000_000, auto_offset_reset="earliest"))
        client.refused(client.OUT_OF_RANGE, read, topic, 1, 0, 1_000_000)

    @scenario
    def fetch_from_the_middle_of_a_batch():
        for codec in CODECS:
            topic = client.create()
            client.write(client.producer(codec=codec, linger_ms=500), numbered(topic, 100))
            for first in (0, 1, 37, 99):
                records = read(topic, 100 - first, offset=first)
                assert_dense(records, first)
                assert records[0].value == str(first).encode()

    @scenario
    def reading_while_writing():
        topic = client.create(2)
        total = client.WRITTEN_WHILE_READING
        reader = client.reader([(topic, partition, 0) for partition in range(2)], **client.LONG_WAITS)
        client.poll(reader, 0.5)
        failures = []

        def write_all():
            try:
                producer = client.producer(linger_ms=1)
                for first in range(0, total, 20):
                    numbers = range(first, first + 20)
                    records = [
                        {"topic": topic, "partition": index % 2, "value": f"{index} {time.time()}".encode()}
                        for index in numbers
                    ]
                    client.send(producer, records)
                    time.sleep(0.002)
                client.finish(producer)
            except BaseException as error:
                failures.append(error)
                raise

        writer = threading.Thread(target=write_all)
        writer.start()
        seen = {0: [], 1: []}
        lag = []

        def poll():
            records = client.poll(reader, 0.1)
            for record in records:
                index, written = record.value.split()
                lag.append(time.time() - float(written))
                seen[record.partition].append(int(index))
            return records

        take(poll, total)
        writer.join(PATIENCE)
        client.close(reader)
        assert not failures, failures
        assert seen == {0: list(range(0, total, 2)), 1: list(range(1, total, 2))}
        lag.sort()
        # An empty fetch waits for 20 s: writes wake it, so the median is far below on any machine.
        assert lag[len(lag) // 2] < 10, f"median lag {lag[len(lag) // 2]:.3f} s"

    @scenario
    def many_partitions():
        topic = client.create(60)
        records = [{"topic": topic, "key": f"key-{n}".encode(), "value": str(n).encode()} for n in range(3000)]
        acknowledged = client.write(client.producer(linger_ms=20, **client.BY_KEY), records)
        where = {index: (record.partition, record.offset) for index, record in enumerate(acknowledged)}
        assert len({partition for partition, _ in where.values()}) == 60
        reader = client.reader([(topic, partition, 0) for partition in range(60)])
        found = {int(record.value): (record.partition, record.offset) for record in take_from(reader, 3000)}
        client.close(reader)
        assert found == where

    class Survivor(threading.Thread):
        """A member of a group, at work until it leaves. It commits what it has read."""

        def __init__(self, topic, group, ledger):
            super().__init__(daemon=True)
            self.topic, self.ledger = topic, ledger
            # The ends of what was read and is not committed yet.
            self.pending, self.count, self.is_leaving = {}, 0, False
            # Who has a partition now will read these again.
            self.reader = client.subscribed(topic, group, lambda partition: self.pending.pop(partition, None))
            self.start()

        def run(self):
            or_end("a member", self.work)

        def work(self):
            while not self.is_leaving or self.pending:
                for record in client.poll_in_group(self.reader):
                    self.ledger.read(record)
                    self.pending[record.partition] = record.offset + 1
                    self.count += 1
                if self.pending:
                    self.commit()
            client.close(self.reader)

        def commit(self):
            ends = dict(self.pending)
            is_committed = client.try_commit(self.reader, self.topic, ends)
            if is_committed:
                self.ledger.committed(ends)
            if is_committed is not None:
                self.pending.clear()

        def leave(self):
            self.is_leaving = True
            self.join(PATIENCE)
            assert not self.is_alive(), "it does not leave"

    @scenario
    def a_member_that_does_not_poll_is_replaced():
        topic, group = client.create(2), f"group-{uuid.uuid4().hex[:12]}"
        client.write(client.producer(), numbered(topic, 2, partitions=2))
        busy = client.subscribed(topic, group, lambda partition: None, **client.SHORT_POLLS)
        take(lambda: client.poll_in_group(busy), 2)
        other = Survivor(topic, group, Ledger())
        eventually(lambda: other.count == 2, "nobody takes over and reads what is not committed")
        assert client.try_commit(busy, topic, {0: 1, 1: 1}) is False, "it commits what others have read"
        client.close(busy)
        other.leave()

    @scenario
    def a_group_goes_on_through_kill_and_restart():
        """Reads, commits and writes on through a kill -9 and a restart, which the test does when it has read the line.

        Nobody writes to the last partition after that: what was committed of it must be there still.
        """
        topic, group = client.create(5), f"group-{uuid.uuid4().hex[:12]}"
        writer, ledger, written = client.producer(enable_idempotence=True, linger_ms=0), Ledger(), 0
        first, second = Survivor(topic, group, ledger), Survivor(topic, group, ledger)

        def write_until(condition, otherwise, partitions=4):
            def holds():
                nonlocal written
                values = [str(written + partition).encode() for partition in range(partitions)]
                client.write(writer, [{"topic": topic, "partition": at, "value": value} for at, value in enumerate(values)])
                written += partitions
                return condition()

            eventually(holds, otherwise)

        def both_read():
            before = first.count, second.count
            return lambda: first.count > before[0] and second.count > before[1]

        write_until(both_read(), "they do not share", partitions=5)
        eventually(lambda: ledger.is_all_committed(written), "not everything is committed")
        answered = say("kill me")
        write_until(answered.is_set, "the test does not answer")
        write_until(both_read(), "they do not go on")
        first.leave()
        # The other one reads all partitions, or these are not read.
        write_until(lambda: True, "")
        eventually(lambda: ledger.has_read(written), "a record is lost")
        second.leave()
        assert client.committed(topic, group) == ledger.next, (client.committed(topic, group), ledger.next)

    return read
