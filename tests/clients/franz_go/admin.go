package main

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func clusterAndMetadata() {
	topic := create(3, nil)
	cl := admin()
	metadata := must(cl.BrokerMetadata(background()))
	check(metadata.Cluster != "", "no cluster id")
	equal(len(metadata.Brokers), 1, "brokers")
	broker := metadata.Brokers[0].NodeID
	equal(metadata.Controller, broker, "controller")
	topics := must(cl.ListTopics(background(), topic))
	equal(len(topics[topic].Partitions), 3, "partitions")
	check(topics[topic].ID != kadm.TopicID{}, "no topic id")
	for _, partition := range topics[topic].Partitions {
		equal(partition.Leader, broker, "leader")
		check(len(partition.ISR) == 1 && partition.ISR[0] == broker, "isr %v", partition.ISR)
		check(len(partition.Replicas) == 1 && partition.Replicas[0] == broker, "replicas %v", partition.Replicas)
	}
}

func topicsAreCreatedGrownAndDeleted() {
	topic := create(2, map[string]string{"segment.bytes": "1048576"})
	cl := admin()
	refused := func(expected *kerr.Error, name string, partitions int32, replicas int16, configs map[string]*string) {
		created := must(cl.CreateTopics(background(), partitions, replicas, configs, name))
		check(errors.Is(created[name].Err, expected), "%v instead of %v", created[name].Err, expected)
	}
	refused(kerr.TopicAlreadyExists, topic, 2, 1, nil)
	refused(kerr.InvalidTopicException, "a/b", 1, 1, nil)
	refused(kerr.InvalidPartitions, topic+"-0", 0, 1, nil)
	refused(kerr.InvalidReplicationFactor, topic+"-3", 1, 3, nil)
	wrong := map[string]*string{"retention.ms": kadm.StringPtr("a while")}
	refused(kerr.InvalidConfig, topic+"-c", 1, 1, wrong)

	grown := must(cl.UpdatePartitions(background(), 5, topic))
	check(grown[topic].Err == nil, "%v", grown[topic].Err)
	equal(len(must(cl.ListTopics(background(), topic))[topic].Partitions), 5, "partitions")
	shrunk := must(cl.UpdatePartitions(background(), 4, topic))
	check(errors.Is(shrunk[topic].Err, kerr.InvalidPartitions), "%v", shrunk[topic].Err)

	deleted := must(cl.DeleteTopics(background(), topic))
	check(deleted[topic].Err == nil, "%v", deleted[topic].Err)
	for ctx := background(); must(cl.ListTopics(ctx)).Has(topic); time.Sleep(50 * time.Millisecond) {
	}
	deleted = must(cl.DeleteTopics(background(), topic))
	check(errors.Is(deleted[topic].Err, kerr.UnknownTopicOrPartition), "%v", deleted[topic].Err)
}

func configsAreDescribedAndAltered() {
	topic := create(1, map[string]string{"max.message.bytes": "2000000"})
	cl := admin()
	describe := func() map[string]string {
		described := must(must(cl.DescribeTopicConfigs(background(), topic)).On(topic, nil))
		found := make(map[string]string)
		for _, config := range described.Configs {
			found[config.Key] = config.MaybeValue()
		}
		return found
	}
	// A broker may tell of a decision a moment after it was made.
	describeUntil := func(key, value string) map[string]string {
		found := describe()
		for ctx := background(); found[key] != value && ctx.Err() == nil; found = describe() {
			time.Sleep(50 * time.Millisecond)
		}
		equal(found[key], value, key)
		return found
	}
	found := describeUntil("max.message.bytes", "2000000")
	equal(found["retention.ms"], "604800000", "retention.ms")
	equal(found["cleanup.policy"], "delete", "cleanup.policy")

	alter := func(op kadm.IncrementalOp, key, value string) error {
		change := []kadm.AlterConfig{{Op: op, Name: key, Value: &value}}
		return must(must(cl.AlterTopicConfigs(background(), change, topic)).On(topic, nil)).Err
	}
	check(alter(kadm.SetConfig, "retention.ms", "3600000") == nil, "retention.ms was refused")
	check(alter(kadm.DeleteConfig, "max.message.bytes", "") == nil, "the deletion was refused")
	found = describeUntil("max.message.bytes", "1048588")
	equal(found["retention.ms"], "3600000", "retention.ms")
	check(errors.Is(alter(kadm.SetConfig, "retention.millis", "1"), kerr.InvalidConfig), "a wrong key was taken")
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
		found, present := must(offsets, err).Lookup(topic, 0)
		check(present && found.Err == nil, "%v", found.Err)
		return found.Offset
	}
	equal(one(cl.ListStartOffsets(background(), topic)), 0, "start")
	equal(one(cl.ListEndOffsets(background(), topic)), 100, "end")
	equal(one(cl.ListMaxTimestampOffsets(background(), topic)), 99, "max timestamp")
	after := func(stamp time.Time) int64 {
		return one(cl.ListOffsetsAfterMilli(background(), stamp.UnixMilli(), topic))
	}
	equal(after(time.UnixMilli(0)), 0, "from 1970")
	equal(after(start.Add(3041*time.Millisecond)), 35, "inside a batch")
	equal(after(start.Add(3091*time.Millisecond)), 40, "between batches")
	equal(after(start.Add(time.Hour)), 100, "in the future")
}

func aDeletedTopicComesBackEmpty() {
	topic := create(1, nil)
	write(writer(), values(topic, 10)...)
	cl := admin()
	deleted := must(cl.DeleteTopics(background(), topic))
	check(deleted[topic].Err == nil, "%v", deleted[topic].Err)
	for ctx := background(); ; time.Sleep(50 * time.Millisecond) {
		created := must(cl.CreateTopics(ctx, 1, 1, nil, topic))
		if !errors.Is(created[topic].Err, kerr.TopicAlreadyExists) {
			check(created[topic].Err == nil, "%v", created[topic].Err)
			break
		}
	}
	record := &kgo.Record{Topic: topic, Value: []byte("new")}
	write(writer(), record)
	equal(record.Offset, 0, "offset")
	equal(string(read(topic, 1, 0)[0].Value), "new", "value")
}
