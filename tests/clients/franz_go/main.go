// Command franz-go drives franz-go against a broker: `franz-go BOOTSTRAP SCENARIO` runs one scenario.
//
// A scenario fails by a panic. It uses topics of its own and assigns partitions explicitly: no consumer group takes part.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patience ends every wait in a scenario.
const patience = 60 * time.Second

var scenarios = map[string]func(){
	"cluster_and_metadata":                                 clusterAndMetadata,
	"topics_are_created_grown_and_deleted":                 topicsAreCreatedGrownAndDeleted,
	"configs_are_described_and_altered":                    configsAreDescribedAndAltered,
	"every_codec_comes_back":                               everyCodecComesBack,
	"keys_values_and_headers_may_be_null_or_empty":         keysValuesAndHeadersMayBeNullOrEmpty,
	"timestamps_are_the_producers_or_the_logs":             timestampsAreTheProducersOrTheLogs,
	"records_of_one_byte_and_of_one_megabyte":              recordsOfOneByteAndOfOneMegabyte,
	"idempotent_producer_writes_each_record_once_in_order": idempotentProducerWritesEachRecordOnceInOrder,
	"every_level_of_acks":                                  everyLevelOfAcks,
	"offsets_for_times_and_ends":                           offsetsForTimesAndEnds,
	"reading_starts_at_the_start_the_end_or_where_asked":   readingStartsAtTheStartTheEndOrWhereAsked,
	"fetch_from_the_middle_of_a_batch":                     fetchFromTheMiddleOfABatch,
	"reading_while_writing":                                readingWhileWriting,
	"many_partitions":                                      manyPartitions,
	"a_deleted_topic_comes_back_empty":                     aDeletedTopicComesBackEmpty,
	"acknowledged_records_survive_kill_and_restart":        acknowledgedRecordsSurviveKillAndRestart,
}

func main() {
	name := os.Args[2]
	if name == "--list" {
		for name := range scenarios {
			fmt.Println(name)
		}
		return
	}
	switch name {
	case "write":
		writeForOthers(os.Args[3])
		return
	case "read":
		for _, topic := range os.Args[3:] {
			readFromOthers(topic)
		}
		return
	}
	run, found := scenarios[name]
	check(found, "no scenario %s", name)
	run()
}

// background ends after patience, and releases its timer by itself.
func background() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// check fails the scenario unless ok.
func check(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// must fails the scenario on an error.
func must[T any](value T, err error) T {
	check(err == nil, "%v", err)
	return value
}

func equal[T comparable](found, expected T, what string) {
	check(found == expected, "%s: %v instead of %v", what, found, expected)
}

func client(options ...kgo.Opt) *kgo.Client {
	common := []kgo.Opt{
		kgo.SeedBrokers(os.Args[1]),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		// A topic may be served a moment after it was made.
		kgo.UnknownTopicRetries(100),
	}
	return must(kgo.NewClient(append(common, options...)...))
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

// create makes a new topic and returns its name.
func create(partitions int32, configs map[string]string) string {
	random := make([]byte, 6)
	must(rand.Read(random))
	name := "franz-go-" + hex.EncodeToString(random)
	values := make(map[string]*string)
	for key, value := range configs {
		values[key] = kadm.StringPtr(value)
	}
	cl := admin()
	defer cl.Close()
	created := must(cl.CreateTopics(background(), partitions, 1, values, name))
	check(created[name].Err == nil, "create: %v", created[name].Err)
	return name
}

// writer produces to the partitions that the records name.
func writer(options ...kgo.Opt) *kgo.Client {
	return client(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
}

// write produces the records, waits for all acknowledgements and closes the client.
func write(cl *kgo.Client, records ...*kgo.Record) {
	defer cl.Close()
	for _, result := range cl.ProduceSync(background(), records...) {
		check(result.Err == nil, "produce: %v", result.Err)
	}
}

// values makes one record per value, for partition 0 of the topic.
func values(topic string, count int) []*kgo.Record {
	records := make([]*kgo.Record, count)
	for index := range records {
		records[index] = &kgo.Record{Topic: topic, Value: fmt.Append(nil, index)}
	}
	return records
}

// reader consumes partitions of a topic, all from the same place.
func reader(topic string, partitions int32, from kgo.Offset, options ...kgo.Opt) *kgo.Client {
	assigned := make(map[int32]kgo.Offset)
	for partition := range partitions {
		assigned[partition] = from
	}
	options = append(options, kgo.FetchMaxWait(200*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: assigned}))
	return client(options...)
}

// take reads until it has count records.
func take(cl *kgo.Client, count int) []*kgo.Record {
	var records []*kgo.Record
	ctx := background()
	for len(records) < count {
		fetches := cl.PollFetches(ctx)
		check(ctx.Err() == nil, "%d of %d records after %v", len(records), count, patience)
		fetches.EachError(func(topic string, partition int32, err error) {
			panic(fmt.Sprintf("fetch from %s-%d: %v", topic, partition, err))
		})
		records = append(records, fetches.Records()...)
	}
	equal(len(records), count, "records")
	return records
}

// read reads count records of partition 0 from an offset on.
func read(topic string, count int, from int64, options ...kgo.Opt) []*kgo.Record {
	cl := reader(topic, 1, kgo.NewOffset().At(from), options...)
	defer cl.Close()
	records := take(cl, count)
	dense(records, from)
	return records
}

// dense checks that offsets count up from first.
func dense(records []*kgo.Record, first int64) {
	for index, record := range records {
		equal(record.Offset, first+int64(index), "offset")
	}
}

// ofPartition keeps the records of one partition, ordered by offset.
func ofPartition(records []*kgo.Record, partition int32) []*kgo.Record {
	var mine []*kgo.Record
	for _, record := range records {
		if record.Partition == partition {
			mine = append(mine, record)
		}
	}
	sort.Slice(mine, func(a, b int) bool { return mine[a].Offset < mine[b].Offset })
	return mine
}
