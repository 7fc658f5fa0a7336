// Command sarama drives sarama against a broker: `sarama BOOTSTRAP SCENARIO...` runs scenarios, all at once.
//
// A scenario fails by a panic, and uses topics of its own.
package main

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/IBM/sarama"

	. "skein/tests/harness"
)

var scenarios = map[string]func(){
	"topics_are_created_grown_and_deleted":                  topicsAreCreatedGrownAndDeleted,
	"configs_are_described_and_altered":                     configsAreDescribedAndAltered,
	"every_codec_comes_back":                                everyCodecComesBack,
	"members_of_a_group_share_the_partitions_and_take_over": membersOfAGroupShareThePartitionsAndTakeOver,
	"members_of_a_cooperative_group_share_and_take_over":    membersOfACooperativeGroupShareAndTakeOver,
	"a_static_member_comes_back_without_a_rebalance":        aStaticMemberComesBackWithoutARebalance,
	"a_member_that_stalls_and_at_last_crashes_is_replaced":  aMemberThatStallsAndAtLastCrashesIsReplaced,
	"a_group_goes_on_through_kill_and_restart":              aGroupGoesOnThroughKillAndRestart,
	"a_group_goes_on_where_it_committed":                    aGroupGoesOnWhereItCommitted,
	"a_member_seeks_back_and_forth":                         aMemberSeeksBackAndForth,
	"a_group_starts_where_it_is_reset_to":                   aGroupStartsWhereItIsResetTo,
	"groups_are_listed_described_changed_and_deleted":       groupsAreListedDescribedChangedAndDeleted,
}

func main() {
	Main(Program{Scenarios: scenarios, Write: writeForOthers, Read: readFromOthers, BeAMember: beAMember})
}

// settings are those of a client, with what an option changes.
func settings(options ...func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_1_0_0
	config.Metadata.Retry.Backoff = 20 * time.Millisecond
	config.Metadata.Retry.Max = 100
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	for _, option := range options {
		option(config)
	}
	return config
}

func bootstrap() []string { return []string{Bootstrap()} }

func admin() sarama.ClusterAdmin { return Must(sarama.NewClusterAdmin(bootstrap(), settings())) }

// create makes a new topic and returns its name.
func create(partitions int32) string {
	name := "sarama-" + rand.Text()
	cl := admin()
	defer cl.Close()
	Must(0, cl.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: Replication()}, false))
	// A broker may tell of a decision a moment after it was made.
	isThere := func() bool { return Must(cl.DescribeTopics([]string{name}))[0].Err == sarama.ErrNoError }
	Eventually(isThere, "the topic is not there")
	return name
}

// write produces the messages with one codec, and waits for all acknowledgements.
func write(codec sarama.CompressionCodec, messages ...*sarama.ProducerMessage) {
	producer := Must(sarama.NewSyncProducer(bootstrap(), settings(func(config *sarama.Config) {
		config.Producer.Compression = codec
	})))
	defer producer.Close()
	Must(0, producer.SendMessages(messages))
}

// take reads count messages of partition 0 from an offset on.
func take(topic string, count int, from int64) []*sarama.ConsumerMessage {
	consumer := Must(sarama.NewConsumer(bootstrap(), settings()))
	defer consumer.Close()
	partition := Must(consumer.ConsumePartition(topic, 0, from))
	defer partition.Close()
	var messages []*sarama.ConsumerMessage
	for ctx := Background(); len(messages) < count; {
		select {
		case message := <-partition.Messages():
			messages = append(messages, message)
		case <-ctx.Done():
			Check(false, "%d of %d messages in time", len(messages), count)
		}
	}
	return messages
}

func refused(err error, expected error) {
	Check(errors.Is(err, expected), "%v instead of %v", err, expected)
}
