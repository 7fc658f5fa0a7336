// Command loader puts a load on one broker and measures what the client sees of it.
//
// Input: flags, and on standard input the word to start; the producer without a number of bytes goes on until standard
// input ends. Output: the line "ready" when all is prepared, and at the end one line of JSON. Whoever starts it can so
// take the broker's CPU time right before and right after the load.
//
// Settings are franz-go's own, which include acks=all, an idempotent producer and room for 50,000 waiting records, apart
// from these: no compression (it would be snappy) and a linger of 5 ms (it would be 10; Kafka's own producer has 5). How
// large batches may become is a flag: nothing else moves the cost of a byte as much.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// patience ends every load: longer than any takes.
const patience = 5 * time.Minute

// load is what the flags say.
type load struct {
	bootstrap   string
	topic       string
	partitions  int
	from        int64
	recordBytes int
	batchBytes  int
	acks        string
	codec       string
	rate        int64
	consumers   int
	bytes       int64
	records     int64
	warmUp      int64
	keys        int64
}

// result is what the client saw. Bytes are those of the records' values.
type result struct {
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	Batches int64   `json:"batches,omitempty"`
	Frames  []int   `json:"frames,omitempty"`
	P50Ms   float64 `json:"p50_ms,omitempty"`
	P99Ms   float64 `json:"p99_ms,omitempty"`
	P999Ms  float64 `json:"p999_ms,omitempty"`
}

func main() {
	var l load
	flags := flag.NewFlagSet("loader produce|consume|latency", flag.ExitOnError)
	flags.StringVar(&l.bootstrap, "bootstrap", "", "`host:port` of the broker")
	flags.StringVar(&l.topic, "topic", "", "topic, which exists")
	flags.IntVar(&l.partitions, "partitions", 1, "partitions of the topic, to consume from")
	flags.Int64Var(&l.from, "from", 0, "offset to consume from, in each partition")
	flags.IntVar(&l.recordBytes, "record-bytes", 1024, "bytes of each record's value")
	flags.IntVar(&l.batchBytes, "batch-bytes", 1000012, "bytes of a batch at most")
	flags.StringVar(&l.acks, "acks", "all", "when produced records count as written: all, 1 or 0")
	flags.StringVar(&l.codec, "codec", "none", "how batches are compressed: none, gzip, snappy, lz4 or zstd")
	flags.Int64Var(&l.rate, "rate", 0, "records to produce per second; 0: as fast as the broker takes them")
	flags.IntVar(&l.consumers, "consumers", 1, "clients that consume at once, each of them all records")
	flags.Int64Var(&l.keys, "keys", 0, "different keys of produced records, in a scattered order; 0: none")
	flags.Int64Var(&l.bytes, "bytes", 0, "bytes to produce; 0: until standard input ends")
	flags.Int64Var(&l.records, "records", 0, "records to consume, or to measure one at a time")
	flags.Int64Var(&l.warmUp, "warm-up", 0, "records sent one at a time before those measured")
	loads := map[string]func(context.Context, load) result{
		"produce": produce,
		"consume": consume,
		"latency": latency,
	}
	name := "none"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	run, found := loads[name]
	check(found, "no load %q: produce, consume or latency", name)
	check(flags.Parse(os.Args[2:]) == nil, "flags")

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(json.NewEncoder(os.Stdout).Encode(run(ctx, l)) == nil, "standard output is closed")
}

// client connects, with the settings that every load shares.
func (l load) client(ctx context.Context, options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(l.bootstrap))...)
	check(err == nil, "settings: %v", err)
	err = client.Ping(ctx)
	check(err == nil, "%s does not answer: %v", l.bootstrap, err)
	return client
}

// allPartitions consumes the topic from where the flags say.
func (l load) allPartitions() kgo.Opt {
	offsets := make(map[int32]kgo.Offset, l.partitions)
	for partition := range l.partitions {
		offsets[int32(partition)] = kgo.NewOffset().At(l.from)
	}
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: offsets})
}

// input is what whoever started the loader says.
var input = bufio.NewReader(os.Stdin)

// awaitStart says that all is prepared, and returns when told to go.
func awaitStart() {
	fmt.Println("ready")
	_, err := input.ReadString('\n')
	check(err == nil, "not told to start: %v", err)
}

// percentile is the smallest value that at least this share of the sorted values do not exceed.
func percentile(sorted []time.Duration, share float64) time.Duration {
	rank := int(float64(len(sorted))*share+0.999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

func sortDurations(durations []time.Duration) {
	sort.Slice(durations, func(i, j int) bool { return durations[i] < durations[j] })
}

func milliseconds(duration time.Duration) float64 {
	return float64(duration) / float64(time.Millisecond)
}

// check ends the load unless ok.
func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, "loader: "+format+"\n", args...)
		os.Exit(1)
	}
}
