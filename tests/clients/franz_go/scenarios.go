package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "skein/tests/harness"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func everyCodecComesBack() {
	topic := create(1, nil)
	var expected []*kgo.Record
	for name, codec := range codecs {
		var records []*kgo.Record
		for index := range 200 {
			records = append(records, &kgo.Record{
				Topic:   topic,
				Key:     fmt.Appendf(nil, "%s-%d", name, index),
				Value:   bytes.Repeat(fmt.Appendf(nil, "%s %d ", name, index), 50),
				Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(name)}},
			})
		}
		write(writer(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50*time.Millisecond)), records...)
		expected = append(expected, records...)
	}
	for index, record := range read(topic, len(expected), 0) {
		Check(bytes.Equal(record.Key, expected[index].Key), "key of %d: %q", index, record.Key)
		Check(bytes.Equal(record.Value, expected[index].Value), "value of %d: %q", index, record.Value)
		Equal(len(record.Headers), 1, "headers")
		Equal(string(record.Headers[0].Value), string(expected[index].Headers[0].Value), "header")
	}
}

func keysValuesAndHeadersMayBeNullOrEmpty() {
	topic := create(1, nil)
	all := make([]byte, 256)
	for index := range all {
		all[index] = byte(index)
	}
	sent := []*kgo.Record{
		{},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("key")},
		{Value: []byte("value")},
		{Key: all, Value: all},
		{Headers: []kgo.RecordHeader{{Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "", Value: all}}},
		{Headers: []kgo.RecordHeader{{Key: "same", Value: []byte("1")}, {Key: "same", Value: []byte("2")}}},
		{Headers: []kgo.RecordHeader{{Key: "ключ", Value: []byte("☃")}}},
	}
	for _, record := range sent {
		record.Topic = topic
	}
	write(writer(), sent...)
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	for index, record := range read(topic, len(sent), 0) {
		Check(same(record.Key, sent[index].Key), "key of %d: %q", index, record.Key)
		Check(same(record.Value, sent[index].Value), "value of %d: %q", index, record.Value)
		Equal(len(record.Headers), len(sent[index].Headers), "headers")
		for at, header := range record.Headers {
			Equal(header.Key, sent[index].Headers[at].Key, "header's key")
			Check(same(header.Value, sent[index].Headers[at].Value), "header's value: %q", header.Value)
		}
	}
}

func timestampsAreTheProducersOrTheLogs() {
	now := time.Now().Truncate(time.Millisecond)
	for kind, configs := range []map[string]string{nil, {"message.timestamp.type": "LogAppendTime"}} {
		topic := create(1, configs)
		var sent []*kgo.Record
		for _, age := range []time.Duration{time.Minute, time.Second, time.Hour, 0} {
			sent = append(sent, &kgo.Record{Topic: topic, Value: all100, Timestamp: now.Add(-age)})
		}
		write(writer(kgo.ProducerLinger(50*time.Millisecond)), sent...)
		for index, record := range read(topic, 4, 0) {
			Equal(int(record.Attrs.TimestampType()), kind, "timestamp type")
			if kind == 0 {
				Check(record.Timestamp.Equal(sent[index].Timestamp), "timestamp %v", record.Timestamp)
			} else {
				Check(record.Timestamp.Sub(now).Abs() < time.Minute/2, "timestamp %v", record.Timestamp)
			}
		}
	}
}

// all100 is long enough to be compressed.
var all100 = bytes.Repeat([]byte("x"), 100)

func recordsOfOneByteAndOfOneMegabyte() {
	topic := create(1, nil)
	sizes := []int{1, 1_000_000, 1, 1_048_000, 65_536, 1}
	// Not compressed: the sizes are what matters.
	plain := []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}
	var sent []*kgo.Record
	for index, size := range sizes {
		sent = append(sent, &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{byte(index)}, size)})
	}
	write(writer(append(plain, kgo.ProducerBatchMaxBytes(1_048_588))...), sent...)
	for _, limits := range [][]kgo.Opt{nil, {kgo.FetchMaxBytes(1000), kgo.FetchMaxPartitionBytes(1000)}} {
		for index, record := range read(topic, len(sizes), 0, limits...) {
			Check(bytes.Equal(record.Value, sent[index].Value), "value of %d", index)
		}
	}
	cl := writer(append(plain, kgo.ProducerBatchMaxBytes(2_000_000))...)
	err := cl.ProduceSync(Background(), &kgo.Record{Topic: topic, Value: make([]byte, 1_200_000)}).FirstErr()
	Check(errors.Is(err, kerr.MessageTooLarge), "%v", err)
}

func idempotentProducerWritesEachRecordOnceInOrder() {
	topic := create(4, nil)
	var sent []*kgo.Record
	for index := range 20_000 {
		sent = append(sent, &kgo.Record{Topic: topic, Partition: int32(index % 4), Value: fmt.Append(nil, index)})
	}
	write(writer(kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchMaxBytes(2000)), sent...)
	cl := reader(topic, 4, kgo.NewOffset().AtStart())
	defer cl.Close()
	records := take(cl, len(sent))
	for partition := range int32(4) {
		mine := ofPartition(records, partition)
		dense(mine, 0)
		for index, record := range mine {
			Equal(string(record.Value), strconv.Itoa(index*4+int(partition)), "value")
		}
	}
}

func everyLevelOfAcks() {
	topic := create(1, nil)
	// No acks last: what is sent without an answer to a topic that is still being set up may be lost.
	for _, acks := range []kgo.Acks{kgo.LeaderAck(), kgo.AllISRAcks(), kgo.NoAck()} {
		records := values(topic, 100)
		write(writer(kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite()), records...)
		if acks != kgo.NoAck() {
			dense(records, records[0].Offset)
		}
	}
	for index, record := range read(topic, 300, 0) {
		Equal(string(record.Value), strconv.Itoa(index%100), "value")
	}
}

func readingStartsAtTheStartTheEndOrWhereAsked() {
	topic := create(1, nil)
	write(writer(), values(topic, 50)...)
	read(topic, 30, 20)
	// Two ways to say the same.
	for _, place := range []kgo.Offset{kgo.NewOffset().AtEnd().Relative(-5), kgo.NewOffset().AtStart().Relative(45)} {
		cl := reader(topic, 1, place)
		dense(take(cl, 5), 45)
		cl.Close()
	}
	cl := reader(topic, 1, kgo.NewOffset().At(1_000_000), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	dense(take(cl, 50), 0)
	cl.Close()

	cl = reader(topic, 1, kgo.NewOffset().AtEnd())
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	Equal(cl.PollFetches(ctx).NumRecords(), 0, "records at the end")
	cancel()
	write(writer(), &kgo.Record{Topic: topic, Value: []byte("50")})
	dense(take(cl, 1), 50)
}

func fetchFromTheMiddleOfABatch() {
	for _, codec := range codecs {
		topic := create(1, nil)
		write(writer(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(100*time.Millisecond)), values(topic, 100)...)
		for _, first := range []int{0, 1, 37, 99} {
			records := read(topic, 100-first, int64(first))
			Equal(string(records[0].Value), strconv.Itoa(first), "value")
		}
	}
}

func readingWhileWriting() {
	topic := create(2, nil)
	const total = 20_000
	from := reader(topic, 2, kgo.NewOffset().AtStart())
	defer from.Close()
	var failed atomic.Int64
	go func() {
		cl := writer(kgo.ProducerLinger(time.Millisecond))
		for index := range total {
			record := &kgo.Record{Topic: topic, Partition: int32(index % 2), Value: fmt.Append(nil, index)}
			cl.Produce(Background(), record, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Add(1)
				}
			})
			if index%100 == 0 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		cl.Flush(Background())
	}()
	records := take(from, total)
	Equal(failed.Load(), 0, "failed writes")
	for partition := range int32(2) {
		mine := ofPartition(records, partition)
		dense(mine, 0)
		for index, record := range mine {
			Equal(string(record.Value), strconv.Itoa(index*2+int(partition)), "value")
		}
	}
}

func manyPartitions() {
	topic := create(60, nil)
	type place struct {
		partition int32
		offset    int64
	}
	var sent []*kgo.Record
	for index := range 6000 {
		sent = append(sent, &kgo.Record{Topic: topic, Key: fmt.Append(nil, index), Value: fmt.Append(nil, index)})
	}
	write(client(), sent...)
	where := make(map[string]place)
	used := make(map[int32]bool)
	for _, record := range sent {
		where[string(record.Value)] = place{record.Partition, record.Offset}
		used[record.Partition] = true
	}
	Equal(len(used), 60, "partitions")
	cl := reader(topic, 60, kgo.NewOffset().AtStart())
	defer cl.Close()
	for _, record := range take(cl, len(sent)) {
		Equal(place{record.Partition, record.Offset}, where[string(record.Value)], "place of "+string(record.Value))
	}
}

// acknowledgedRecordsSurviveKillAndRestart writes on through a kill -9 and a restart; the test does these when it has read
// the line, and answers when done.
func acknowledgedRecordsSurviveKillAndRestart() {
	topic := create(1, nil)
	cl := writer(kgo.ProducerLinger(0))
	var lock sync.Mutex
	var acknowledged []*kgo.Record
	count := func() int {
		lock.Lock()
		defer lock.Unlock()
		return len(acknowledged)
	}
	sent := 0
	input := bufio.NewReader(os.Stdin)
	for _, line := range []string{"kill me", "stop me"} {
		answered := make(chan bool)
		mark, said, enough := count()+500, false, 0
		for enough == 0 || count() < enough {
			cl.Produce(Background(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, sent)}, func(record *kgo.Record, err error) {
				Check(err == nil, "produce: %v", err)
				lock.Lock()
				acknowledged = append(acknowledged, record)
				lock.Unlock()
			})
			sent++
			time.Sleep(time.Millisecond)
			if !said && count() >= mark {
				said = true
				fmt.Println(line)
				go func() { Must(input.ReadString('\n')); close(answered) }()
			}
			select {
			case <-answered:
				answered = nil
				enough = count() + 500
			default:
			}
		}
	}
	Must(0, cl.Flush(Background()))
	Equal(count(), sent, "acknowledged")
	dense(acknowledged, 0)
	for index, record := range read(topic, sent, 0) {
		Equal(string(record.Value), strconv.Itoa(index), "value (lost, doubled or reordered)")
	}
}
