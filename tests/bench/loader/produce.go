package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	linger = 5 * time.Millisecond
	// Values are pieces of so many random bytes, so that nothing on the way can compress or share them.
	noiseBytes = 4 << 20
)

// sent counts what was written to the broker.
type sent struct {
	batches atomic.Int64
	mutex   sync.Mutex
	frames  []int
}

// OnProduceBatchWritten is a hook of franz-go's.
func (s *sent) OnProduceBatchWritten(kgo.BrokerMetadata, string, int32, kgo.ProduceBatchMetrics) {
	s.batches.Add(1)
}

// OnBrokerWrite is a hook of franz-go's: bytes is a whole request with its length before it.
func (s *sent) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, bytes int, _, _ time.Duration, err error) {
	const produce = 0
	if key == produce && err == nil {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.frames = append(s.frames, bytes)
	}
}

// produce writes as fast as the broker takes it, and ends when everything is acknowledged.
func produce(ctx context.Context, l load) result {
	var sent sent
	client := l.client(ctx, append(l.acknowledgement(),
		kgo.DefaultProduceTopic(l.topic),
		kgo.ProducerBatchCompression(l.compression()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(int32(l.batchBytes)),
		kgo.WithHooks(&sent),
	)...)
	defer client.Close()
	noise := l.noise()

	awaitStart()
	enough := l.enough()
	started := time.Now()
	var records int64
	for ; !enough(records); records++ {
		l.pace(started, records)
		at := int(records*int64(l.recordBytes)) % noiseBytes
		record := &kgo.Record{Key: l.key(records), Value: noise[at : at+l.recordBytes]}
		client.Produce(ctx, record, acknowledged)
	}
	err := client.Flush(ctx)
	check(err == nil, "not all was acknowledged: %v", err)
	return result{
		Records: records,
		Bytes:   records * int64(l.recordBytes),
		Seconds: time.Since(started).Seconds(),
		Batches: sent.batches.Load(),
		Frames:  sent.frames,
	}
}

// acknowledgement is when a record counts as written. Without acks=all no producer of Kafka's is idempotent.
func (l load) acknowledgement() []kgo.Opt {
	switch l.acks {
	case "all":
		return []kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks())}
	case "1":
		return []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}
	case "0":
		return []kgo.Opt{kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}
	}
	check(false, "no acks %q: all, 1 or 0", l.acks)
	return nil
}

func (l load) compression() kgo.CompressionCodec {
	codecs := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	codec, found := codecs[l.codec]
	check(found, "no codec %q: none, gzip, snappy, lz4 or zstd", l.codec)
	return codec
}

// noise is what values are pieces of. For a codec, of which nothing is to be gained with random bytes, it is half as long
// when compressed: their hexadecimal digits.
func (l load) noise() []byte {
	noise := make([]byte, noiseBytes+l.recordBytes)
	_, err := rand.Read(noise)
	check(err == nil, "random bytes: %v", err)
	if l.codec != "none" {
		noise = []byte(hex.EncodeToString(noise))[:len(noise)]
	}
	return noise
}

// pace waits until a record is due, where a rate is asked for. It looks only now and then: sleeping is not exact.
func (l load) pace(started time.Time, records int64) {
	const look = 16
	if l.rate == 0 || records%look != 0 {
		return
	}
	due := started.Add(time.Duration(records * int64(time.Second) / l.rate))
	time.Sleep(time.Until(due))
}

// key is that of a record by its number: each key comes once before any comes again.
func (l load) key(number int64) []byte {
	if l.keys == 0 {
		return nil
	}
	// A prime: the order is scattered, and complete.
	scattered := uint64(number%l.keys) * 2654435761 % uint64(l.keys)
	return binary.BigEndian.AppendUint64(nil, scattered)
}

// enough tells after how many records the producer stops.
func (l load) enough() func(records int64) bool {
	if l.bytes > 0 {
		wanted := (l.bytes + int64(l.recordBytes) - 1) / int64(l.recordBytes)
		return func(records int64) bool { return records >= wanted }
	}
	var stopped atomic.Bool
	go func() {
		// Whatever ends standard input ends the load.
		_, _ = io.Copy(io.Discard, input)
		stopped.Store(true)
	}()
	return func(int64) bool { return stopped.Load() }
}

func acknowledged(record *kgo.Record, err error) {
	check(err == nil, "a record for %s-%d was refused: %v", record.Topic, record.Partition, err)
}
