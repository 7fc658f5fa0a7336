// Command franz-go drives franz-go against a broker: `franz-go BOOTSTRAP SCENARIO...` runs scenarios, all at once.
//
// A scenario fails by a panic. It uses topics of its own, and assigns partitions explicitly unless it is about groups.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "skein/tests/harness"
)

var scenarios = map[string]func(){
	"cluster_and_metadata":                                  clusterAndMetadata,
	"topics_are_created_grown_and_deleted":                  topicsAreCreatedGrownAndDeleted,
	"configs_are_described_and_altered":                     configsAreDescribedAndAltered,
	"every_codec_comes_back":                                everyCodecComesBack,
	"keys_values_and_headers_may_be_null_or_empty":          keysValuesAndHeadersMayBeNullOrEmpty,
	"timestamps_are_the_producers_or_the_logs":              timestampsAreTheProducersOrTheLogs,
	"records_of_one_byte_and_of_one_megabyte":               recordsOfOneByteAndOfOneMegabyte,
	"idempotent_producer_writes_each_record_once_in_order":  idempotentProducerWritesEachRecordOnceInOrder,
	"every_level_of_acks":                                   everyLevelOfAcks,
	"offsets_for_times_and_ends":                            offsetsForTimesAndEnds,
	"reading_starts_at_the_start_the_end_or_where_asked":    readingStartsAtTheStartTheEndOrWhereAsked,
	"fetch_from_the_middle_of_a_batch":                      fetchFromTheMiddleOfABatch,
	"reading_while_writing":                                 readingWhileWriting,
	"many_partitions":                                       manyPartitions,
	"a_deleted_topic_comes_back_empty":                      aDeletedTopicComesBackEmpty,
	"members_of_a_group_share_the_partitions_and_take_over": membersOfAGroupShareThePartitionsAndTakeOver,
	"members_of_a_cooperative_group_share_and_take_over":    membersOfACooperativeGroupShareAndTakeOver,
	"a_static_member_comes_back_without_a_rebalance":        aStaticMemberComesBackWithoutARebalance,
	"a_member_that_stalls_and_at_last_crashes_is_replaced":  aMemberThatStallsAndAtLastCrashesIsReplaced,
	"a_group_goes_on_where_it_committed":                    aGroupGoesOnWhereItCommitted,
	"a_member_seeks_back_and_forth":                         aMemberSeeksBackAndForth,
	"a_group_starts_where_it_is_reset_to":                   aGroupStartsWhereItIsResetTo,
	"groups_are_listed_described_changed_and_deleted":       groupsAreListedDescribedChangedAndDeleted,
	"a_group_goes_on_through_kill_and_restart":              aGroupGoesOnThroughKillAndRestart,
	"acknowledged_records_survive_kill_and_restart":         acknowledgedRecordsSurviveKillAndRestart,
}

func main() {
	Main(Program{Scenarios: scenarios, Write: writeForOthers, Read: readFromOthers, BeAMember: beAMember})
}

func client(options ...kgo.Opt) *kgo.Client {
	common := []kgo.Opt{
		kgo.SeedBrokers(Bootstrap()),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		// Kafka's coordinators take seconds to begin, on a machine that is busy.
		kgo.RequestRetries(100),
		// A topic may be served a moment after it was made.
		kgo.UnknownTopicRetries(100),
	}
	return Must(kgo.NewClient(append(common, options...)...))
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

// create makes a new topic and returns its name.
func create(partitions int32, configs map[string]string) string {
	random := make([]byte, 6)
	Must(rand.Read(random))
	name := "franz-go-" + hex.EncodeToString(random)
	values := make(map[string]*string)
	for key, value := range configs {
		values[key] = kadm.StringPtr(value)
	}
	cl := admin()
	defer cl.Close()
	created := Must(cl.CreateTopics(Background(), partitions, Replication(), values, name))
	Check(created[name].Err == nil, "create: %v", created[name].Err)
	return name
}

// writer produces to the partitions that the records name.
func writer(options ...kgo.Opt) *kgo.Client {
	return client(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
}

// write produces the records, waits for all acknowledgements and closes the client.
func write(cl *kgo.Client, records ...*kgo.Record) {
	defer cl.Close()
	for _, result := range cl.ProduceSync(Background(), records...) {
		Check(result.Err == nil, "produce: %v", result.Err)
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
	ctx := Background()
	for len(records) < count {
		fetches := cl.PollFetches(ctx)
		Check(ctx.Err() == nil, "%d of %d records in time", len(records), count)
		fetches.EachError(func(topic string, partition int32, err error) {
			// It looks for the coordinator again by itself: the first group of a cluster
			// comes before Kafka's coordinator has begun.
			var session *kgo.ErrGroupSession
			isKafka := os.Getenv("SYSTEM") == "Kafka"
			if isKafka && errors.As(err, &session) && kerr.IsRetriable(session.Err) {
				return
			}
			panic(fmt.Sprintf("fetch from %s-%d: %v", topic, partition, err))
		})
		records = append(records, fetches.Records()...)
	}
	Equal(len(records), count, "records")
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
		Equal(record.Offset, first+int64(index), "offset")
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
