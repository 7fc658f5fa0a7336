package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The records that every client writes and every client must read: see ../python/interop.py.
const (
	perCodec         = 40
	firstTimestampMs = 1_700_000_000_000
)

var codecOrder = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func writeForOthers(topic string) {
	for _, codec := range codecOrder {
		var records []*kgo.Record
		for index := range perCodec {
			record := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(firstTimestampMs + int64(index))}
			if index%4 != 0 {
				record.Key = fmt.Appendf(nil, "%s-%d", codec, index)
			}
			if index%10 != 9 {
				record.Value = bytes.Repeat(fmt.Appendf(nil, "%s.%d.", codec, index), index%7)
			}
			if index%3 == 0 {
				record.Headers = []kgo.RecordHeader{
					{Key: "codec", Value: []byte(codec)},
					{Key: "index", Value: fmt.Append(nil, index)},
				}
			}
			records = append(records, record)
		}
		write(writer(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(50*time.Millisecond)), records...)
	}
}

func readFromOthers(topic string) {
	text := func(value []byte) string {
		if value == nil {
			return "null"
		}
		return string(value)
	}
	cl := reader(topic, 1, kgo.NewOffset().At(0))
	defer cl.Close()
	for _, record := range take(cl, len(codecOrder)*perCodec) {
		var headers []string
		for _, header := range record.Headers {
			headers = append(headers, header.Key+":"+text(header.Value))
		}
		fmt.Printf("%s\t%d\t%d\t%s\t%s\t%s\n", topic, record.Offset, record.Timestamp.UnixMilli(),
			text(record.Key), text(record.Value), strings.Join(headers, ","))
	}
}
