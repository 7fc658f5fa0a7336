package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// The records that every client writes and every client must read: see ../python/interop.py.
const (
	perCodec         = 40
	firstTimestampMs = 1_700_000_000_000
)

func writeForOthers(topic string) {
	for _, codec := range codecs {
		var messages []*sarama.ProducerMessage
		for index := range perCodec {
			message := &sarama.ProducerMessage{Topic: topic, Timestamp: time.UnixMilli(firstTimestampMs + int64(index))}
			if index%4 != 0 {
				message.Key = sarama.ByteEncoder(fmt.Appendf(nil, "%v-%d", codec, index))
			}
			if index%10 != 9 {
				message.Value = sarama.ByteEncoder(bytes.Repeat(fmt.Appendf(nil, "%v.%d.", codec, index), index%7))
			}
			if index%3 == 0 {
				message.Headers = []sarama.RecordHeader{
					{Key: []byte("codec"), Value: []byte(codec.String())},
					{Key: []byte("index"), Value: fmt.Append(nil, index)},
				}
			}
			messages = append(messages, message)
		}
		write(codec, messages...)
	}
}

func readFromOthers(topic string) {
	text := func(value []byte) string {
		if value == nil {
			return "null"
		}
		return string(value)
	}
	for _, message := range take(topic, len(codecs)*perCodec, 0) {
		var headers []string
		for _, header := range message.Headers {
			headers = append(headers, string(header.Key)+":"+text(header.Value))
		}
		fmt.Printf("%s\t%d\t%d\t%s\t%s\t%s\n", topic, message.Offset, message.Timestamp.UnixMilli(),
			text(message.Key), text(message.Value), strings.Join(headers, ","))
	}
}
