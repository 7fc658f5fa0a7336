package main

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "skein/tests/harness"
)

func clusterAndMetadata() {
	topic := create(3, nil)
	cl := admin()
	metadata := Must(cl.BrokerMetadata(Background()))
	Check(metadata.Cluster != "", "no cluster id")
	Equal(len(metadata.Brokers), 1, "brokers")
	broker := metadata.Brokers[0].NodeID
	Equal(metadata.Controller, broker, "controller")
	topics := Must(cl.ListTopics(Background(), topic))
	Equal(len(topics[topic].Partitions), 3, "partitions")
	Check(topics[topic].ID != kadm.TopicID{}, "no topic id")
	for _, partition := range topics[topic].Partitions {
		Equal(partition.Leader, broker, "leader")
		Check(len(partition.ISR) == 1 && partition.ISR[0] == broker, "isr %v", partition.ISR)
		Check(len(partition.Replicas) == 1 && partition.Replicas[0] == broker, "replicas %v", partition.Replicas)
	}
}

func topicsAreCreatedGrownAndDeleted() {
	topic := create(2, map[string]string{"segment.bytes": "1048576"})
	cl := admin()
	refused := func(expected *kerr.Error, name string, partitions int32, replicas int16, configs map[string]*string) {
		created := Must(cl.CreateTopics(Background(), partitions, replicas, configs, name))
		Check(errors.Is(created[name].Err, expected), "%v instead of %v", created[name].Err, expected)
	}
	refused(kerr.TopicAlreadyExists, topic, 2, 1, nil)
	refused(kerr.InvalidTopicException, "a/b", 1, 1, nil)
	refused(kerr.InvalidPartitions, topic+"-0", 0, 1, nil)
	refused(kerr.InvalidReplicationFactor, topic+"-3", 1, 3, nil)
	wrong := map[string]*string{"retention.ms": kadm.StringPtr("a while")}
	refused(kerr.InvalidConfig, topic+"-c", 1, 1, wrong)

	grown := Must(cl.UpdatePartitions(Background(), 5, topic))
	Check(grown[topic].Err == nil, "%v", grown[topic].Err)
	// A broker may tell of a decision a moment after it was made.
	isGrown := func() bool { return len(Must(cl.ListTopics(Background(), topic))[topic].Partitions) == 5 }
	Eventually(isGrown, "the topic has not grown")
	shrunk := Must(cl.UpdatePartitions(Background(), 4, topic))
	Check(errors.Is(shrunk[topic].Err, kerr.InvalidPartitions), "%v", shrunk[topic].Err)

	deleted := Must(cl.DeleteTopics(Background(), topic))
	Check(deleted[topic].Err == nil, "%v", deleted[topic].Err)
	for ctx := Background(); Must(cl.ListTopics(ctx)).Has(topic); time.Sleep(50 * time.Millisecond) {
	}
	deleted = Must(cl.DeleteTopics(Background(), topic))
	Check(errors.Is(deleted[topic].Err, kerr.UnknownTopicOrPartition), "%v", deleted[topic].Err)
}

func configsAreDescribedAndAltered() {
	topic := create(1, map[string]string{"max.message.bytes": "2000000"})
	cl := admin()
	describe := func() map[string]string {
		described := Must(Must(cl.DescribeTopicConfigs(Background(), topic)).On(topic, nil))
		found := make(map[string]string)
		for _, config := range described.Configs {
			found[config.Key] = config.MaybeValue()
		}
		return found
	}
	// A broker may tell of a decision a moment after it was made.
	describeUntil := func(key, value string) map[string]string {
		found := describe()
		for ctx := Background(); found[key] != value && ctx.Err() == nil; found = describe() {
			time.Sleep(50 * time.Millisecond)
		}
		Equal(found[key], value, key)
		return found
	}
	found := describeUntil("max.message.bytes", "2000000")
	Equal(found["retention.ms"], "604800000", "retention.ms")
	Equal(found["cleanup.policy"], "delete", "cleanup.policy")

	alter := func(op kadm.IncrementalOp, key, value string) error {
		change := []kadm.AlterConfig{{Op: op, Name: key, Value: &value}}
		return Must(Must(cl.AlterTopicConfigs(Background(), change, topic)).On(topic, nil)).Err
	}
	Check(alter(kadm.SetConfig, "retention.ms", "3600000") == nil, "retention.ms was refused")
	Check(alter(kadm.DeleteConfig, "max.message.bytes", "") == nil, "the deletion was refused")
	found = describeUntil("max.message.bytes", "1048588")
	Equal(found["retention.ms"], "3600000", "retention.ms")
	Check(errors.Is(alter(kadm.SetConfig, "retention.millis", "1"), kerr.InvalidConfig), "a wrong key was taken")
}

func offsetsForTimesAndEnds() {
	topic := create(1, nil)
	start := time.Now().Add(-10 * time.Second).Truncate(time.Millisecond)
	for batch := range 10 {
		var records []*kgo.Record
		for index := range 10 {
			stamp := start.Add(time.Duration(batch)*time.Second + time.Duration(index)*10*time.Millisecond)
			records = append(records, &kgo.Record{Topic: topic, Value: []byte("x"), Timestamp: stamp})
		}
		write(writer(kgo.ProducerLinger(20*time.Millisecond)), records...)
	}
	cl := admin()
	one := func(offsets kadm.ListedOffsets, err error) int64 {
		found, present := Must(offsets, err).Lookup(topic, 0)
		Check(present && found.Err == nil, "%v", found.Err)
		return found.Offset
	}
	Equal(one(cl.ListStartOffsets(Background(), topic)), 0, "start")
	Equal(one(cl.ListEndOffsets(Background(), topic)), 100, "end")
	Equal(one(cl.ListMaxTimestampOffsets(Background(), topic)), 99, "max timestamp")
	after := func(stamp time.Time) int64 {
		return one(cl.ListOffsetsAfterMilli(Background(), stamp.UnixMilli(), topic))
	}
	Equal(after(time.UnixMilli(0)), 0, "from 1970")
	Equal(after(start.Add(3041*time.Millisecond)), 35, "inside a batch")
	Equal(after(start.Add(3091*time.Millisecond)), 40, "between batches")
	Equal(after(start.Add(time.Hour)), 100, "in the future")
}

func aDeletedTopicComesBackEmpty() {
	topic := create(1, nil)
	write(writer(), values(topic, 10)...)
	cl := admin()
	deleted := Must(cl.DeleteTopics(Background(), topic))
	Check(deleted[topic].Err == nil, "%v", deleted[topic].Err)
	for ctx := Background(); ; time.Sleep(50 * time.Millisecond) {
		created := Must(cl.CreateTopics(ctx, 1, 1, nil, topic))
		if !errors.Is(created[topic].Err, kerr.TopicAlreadyExists) {
			Check(created[topic].Err == nil, "%v", created[topic].Err)
			break
		}
	}
	record := &kgo.Record{Topic: topic, Value: []byte("new")}
	write(writer(), record)
	Equal(record.Offset, 0, "offset")
	Equal(string(read(topic, 1, 0)[0].Value), "new", "value")
}
