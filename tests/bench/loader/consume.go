package main

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads that many records of the topic with each client, all of them at once, as fast as they come. To connect is
// part of it: a client that has its partitions begins to fetch.
func consume(ctx context.Context, l load) result {
	awaitStart()
	started := time.Now()
	each := make([]result, l.consumers)
	var readers sync.WaitGroup
	for number := range each {
		readers.Add(1)
		go func() {
			defer readers.Done()
			each[number] = l.read(ctx)
		}()
	}
	readers.Wait()
	var all result
	for _, one := range each {
		all.Records += one.Records
		all.Bytes += one.Bytes
	}
	all.Seconds = time.Since(started).Seconds()
	return all
}

func (l load) read(ctx context.Context) result {
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
	return seen
}
