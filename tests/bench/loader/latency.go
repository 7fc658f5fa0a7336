package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// latency sends one record at a time and takes the time until a consumer has it: the end-to-end latency without a queue.
// The next one is sent when the last one is consumed and acknowledged.
func latency(ctx context.Context, l load) result {
	producer := l.client(ctx,
		kgo.DefaultProduceTopic(l.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
	)
	defer producer.Close()
	consumer := l.client(ctx, l.allPartitions())
	defer consumer.Close()
	value := make([]byte, l.recordBytes)
	consumed := make(chan struct{})
	go receive(ctx, consumer, l.warmUp+l.records, consumed)

	for range l.warmUp {
		sendOne(ctx, producer, value, consumed)
	}
	awaitStart()
	started := time.Now()
	took := make([]time.Duration, 0, l.records)
	for range l.records {
		took = append(took, sendOne(ctx, producer, value, consumed))
	}
	total := time.Since(started)
	sortDurations(took)
	return result{
		Records: l.records,
		Bytes:   l.records * int64(l.recordBytes),
		Seconds: total.Seconds(),
		P50Ms:   milliseconds(percentile(took, 0.50)),
		P99Ms:   milliseconds(percentile(took, 0.99)),
		P999Ms:  milliseconds(percentile(took, 0.999)),
	}
}

// sendOne returns the time from the call of the producer to the record's arrival at the consumer.
func sendOne(ctx context.Context, producer *kgo.Client, value []byte, consumed <-chan struct{}) time.Duration {
	written := make(chan struct{})
	sent := time.Now()
	producer.Produce(ctx, &kgo.Record{Value: value}, func(record *kgo.Record, err error) {
		acknowledged(record, err)
		close(written)
	})
	await(ctx, consumed)
	took := time.Since(sent)
	await(ctx, written)
	return took
}

// receive tells of each record as it comes.
func receive(ctx context.Context, consumer *kgo.Client, records int64, consumed chan<- struct{}) {
	for records > 0 {
		fetches := consumer.PollFetches(ctx)
		check(fetches.Err() == nil, "a record did not come: %v", fetches.Err())
		fetches.EachRecord(func(*kgo.Record) {
			records--
			consumed <- struct{}{}
		})
	}
}

func await(ctx context.Context, event <-chan struct{}) {
	select {
	case <-event:
	case <-ctx.Done():
		check(false, "a record was not seen in time: %v", ctx.Err())
	}
}
