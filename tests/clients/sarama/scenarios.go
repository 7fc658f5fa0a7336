package main

import (
	"bytes"
	"fmt"

	"github.com/IBM/sarama"

	. "skein/tests/harness"
)

var codecs = []sarama.CompressionCodec{
	sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
}

func everyCodecComesBack() {
	topic := create(1)
	var expected []*sarama.ProducerMessage
	for _, codec := range codecs {
		var messages []*sarama.ProducerMessage
		for index := range 200 {
			message := &sarama.ProducerMessage{
				Topic:   topic,
				Value:   sarama.ByteEncoder(bytes.Repeat(fmt.Appendf(nil, "%v %d ", codec, index), 50)),
				Headers: []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec.String())}},
			}
			if index%10 != 0 {
				message.Key = sarama.ByteEncoder(fmt.Appendf(nil, "%v-%d", codec, index))
			}
			messages = append(messages, message)
		}
		write(codec, messages...)
		for index, message := range messages {
			Equal(message.Offset, int64(len(expected)+index), "acknowledged offset")
		}
		expected = append(expected, messages...)
	}
	for index, message := range take(topic, len(expected), 0) {
		sent := expected[index]
		Equal(message.Offset, int64(index), "offset")
		Check(bytes.Equal(message.Value, sent.Value.(sarama.ByteEncoder)), "value of %d: %q", index, message.Value)
		Equal(message.Key == nil, sent.Key == nil, "whether the key is null")
		if sent.Key != nil {
			Check(bytes.Equal(message.Key, sent.Key.(sarama.ByteEncoder)), "key of %d: %q", index, message.Key)
		}
		Equal(len(message.Headers), 1, "headers")
		Equal(string(message.Headers[0].Value), string(sent.Headers[0].Value), "header")
	}
}

func topicsAreCreatedGrownAndDeleted() {
	topic := create(2)
	cl := admin()
	defer cl.Close()
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}
	refused(cl.CreateTopic(topic, detail, false), sarama.ErrTopicAlreadyExists)
	refused(cl.CreateTopic("a/b", detail, false), sarama.ErrInvalidTopic)
	three := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}
	refused(cl.CreateTopic(topic+"-3", three, false), sarama.ErrInvalidReplicationFactor)

	described := func() *sarama.TopicMetadata { return Must(cl.DescribeTopics([]string{topic}))[0] }
	Must(0, cl.CreatePartitions(topic, 5, nil, false))
	// A broker may tell of a decision a moment after it was made.
	Eventually(func() bool { return len(described().Partitions) == 5 }, "the topic has not grown")
	refused(cl.CreatePartitions(topic, 4, nil, false), sarama.ErrInvalidPartitions)
	Must(0, cl.DeleteTopic(topic))
	gone := func() bool { return described().Err == sarama.ErrUnknownTopicOrPartition }
	Eventually(gone, "the topic is still there")
	refused(cl.DeleteTopic(topic), sarama.ErrUnknownTopicOrPartition)
}

func configsAreDescribedAndAltered() {
	topic := create(1)
	cl := admin()
	defer cl.Close()
	is := func(key, value string) func() bool {
		return func() bool {
			resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}}
			return Must(cl.DescribeConfig(resource))[0].Value == value
		}
	}
	alter := func(operation sarama.IncrementalAlterConfigsOperation, key, value string) error {
		entries := map[string]sarama.IncrementalAlterConfigsEntry{key: {Operation: operation, Value: &value}}
		return cl.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
	}
	Eventually(is("retention.ms", "604800000"), "not the default")
	Must(0, alter(sarama.IncrementalAlterConfigsOperationSet, "retention.ms", "3600000"))
	Eventually(is("retention.ms", "3600000"), "not what was set")
	Must(0, alter(sarama.IncrementalAlterConfigsOperationDelete, "retention.ms", ""))
	Eventually(is("retention.ms", "604800000"), "not the default again")
	Check(alter(sarama.IncrementalAlterConfigsOperationSet, "retention.ms", "a while") != nil, "a wrong value was taken")
}
