package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads that many records of the topic, as fast as they come. To connect is part of it: a client
// that has its partitions begins to fetch.
func consume(ctx context.Context, l load) result {
	awaitStart()
	started := time.Now()
	client := l.client(ctx, l.allPartitions())
	defer client.Close()
	var seen result
	for seen.Records < l.records {
		fetches := client.PollFetches(ctx)
		check(fetches.Err() == nil, "%d of %d records came: %v", seen.Records, l.records, fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			seen.Records++
			seen.Bytes += int64(len(record.Value))
		})
	}
	seen.Seconds = time.Since(started).Seconds()
	return seen
}
