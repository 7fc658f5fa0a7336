package main

import (
	"testing"
	"time"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	var hundred []time.Duration
	for value := 100; value > 0; value-- {
		hundred = append(hundred, time.Duration(value))
	}
	sortDurations(hundred)
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 0.991: 100, 1: 100} {
		if got := percentile(hundred, share); got != want {
			t.Errorf("percentile %v is %d, not %d", share, got, want)
		}
	}
	if got := percentile(hundred[:1], 0.99); got != 1 {
		t.Errorf("of one value it is %d", got)
	}
}

func TestAProducerStopsAtTheFirstRecordThatCompletesItsBytes(t *testing.T) {
	enough := load{recordBytes: 100, bytes: 250}.enough()
	if enough(2) || !enough(3) {
		t.Error("250 bytes are three records of 100")
	}
}

func TestEachKeyComesOnceBeforeAnyComesAgain(t *testing.T) {
	l := load{keys: 10}
	seen := map[string]bool{}
	for number := range l.keys {
		seen[string(l.key(number))] = true
		if string(l.key(number)) != string(l.key(number+l.keys)) {
			t.Errorf("record %d has another key the second time", number)
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d keys of 10", len(seen))
	}
	if (load{}).key(7) != nil {
		t.Error("a key without keys")
	}
}
