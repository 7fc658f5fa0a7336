package harness

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"
)

// Ledger is what the members of a group have read and committed, together. What is known to be committed is not read again.
type Ledger struct {
	lock            sync.Mutex
	values          map[string]bool
	next, committed map[int32]int64
}

// NewLedger is that of a new group.
func NewLedger() *Ledger {
	return &Ledger{values: make(map[string]bool), next: make(map[int32]int64), committed: make(map[int32]int64)}
}

// Read notes a record that a member has got.
func (l *Ledger) Read(partition int32, offset int64, value []byte) {
	l.lock.Lock()
	defer l.lock.Unlock()
	end := l.committed[partition]
	Check(offset >= end, "%d of partition %d is read again: %d is committed", offset, partition, end)
	l.next[partition] = max(offset+1, l.next[partition])
	l.values[string(value)] = true
}

// Committed notes an offset that was acknowledged, or found to be committed.
func (l *Ledger) Committed(partition int32, end int64) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.committed[partition] = max(end, l.committed[partition])
}

func (l *Ledger) hasRead(count int) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	for number := range count {
		if !l.values[fmt.Sprint(number)] {
			return false
		}
	}
	return true
}

func (l *Ledger) end(partition int32) int64 {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.committed[partition]
}

func (l *Ledger) isAllCommitted(count int) bool {
	isRead := l.hasRead(count)
	l.lock.Lock()
	defer l.lock.Unlock()
	return isRead && maps.Equal(l.next, l.committed)
}

// Member is one of a group.
type Member interface {
	Has() (partitions map[int32]bool, read int)
	Generation() int32
	Leave()
}

// SurvivalPartitions is how many the topic of a [Survival] has. Nobody writes to the last one after the crash: what was
// committed of it must be there still.
const SurvivalPartitions = 5

// Survival is a group of two members that goes on through a kill -9 and a restart of the node.
type Survival struct {
	Ledger  *Ledger
	Members [2]Member
	// Write writes numbers as values, from this one on, one to each of so many partitions; it is tried until it succeeds.
	Write func(first int, partitions int) error
	// Committed is what the group has committed, 0 for nothing.
	Committed func(partition int32) (int64, error)

	written int
}

// Run reads, commits and writes on while the test kills the node and starts it again, which it does when it has read the
// line. Each record is read at least once; and then one member takes over.
func (s *Survival) Run() {
	s.writeUntil(SurvivalPartitions, s.bothRead(), "they do not share")
	Eventually(func() bool { s.observe(); return s.Ledger.isAllCommitted(s.written) }, "not everything is committed")
	generation := s.Members[0].Generation()
	answered := say("kill me")
	const still = SurvivalPartitions - 1
	s.writeUntil(still, func() bool {
		select {
		case <-answered:
			return true
		default:
			return false
		}
	}, "the test does not answer")
	s.writeUntil(still, s.bothRead(), "they do not go on")
	for _, member := range s.Members {
		Check(member.Generation() >= generation, "generation %d after %d", member.Generation(), generation)
	}
	s.Members[0].Leave()
	s.writeUntil(still, func() bool {
		partitions, _ := s.Members[1].Has()
		return len(partitions) == SurvivalPartitions
	}, "nobody takes over")
	Eventually(func() bool { return s.Ledger.hasRead(s.written) }, "a record is lost")
	s.Members[1].Leave()
	for partition, next := range s.Ledger.next {
		Equal(Must(s.Committed(partition)), next, "committed")
	}
}

func (s *Survival) writeUntil(partitions int, condition func() bool, otherwise string) {
	for ctx := Background(); !condition(); time.Sleep(50 * time.Millisecond) {
		Check(ctx.Err() == nil, "%s", otherwise)
		if s.Write(s.written, partitions) == nil {
			s.written += partitions
		}
		s.observe()
	}
}

// observe notes what is committed, unless nobody answers; it never goes back.
func (s *Survival) observe() {
	for partition := range int32(SurvivalPartitions) {
		before := s.Ledger.end(partition)
		if end, err := s.Committed(partition); err == nil {
			Check(end >= before, "%d is committed of partition %d, after %d", end, partition, before)
			s.Ledger.Committed(partition, end)
		}
	}
}

// bothRead tells whether each member has read something since.
func (s *Survival) bothRead() func() bool {
	_, first := s.Members[0].Has()
	_, second := s.Members[1].Has()
	return func() bool {
		_, firstNow := s.Members[0].Has()
		_, secondNow := s.Members[1].Has()
		return firstNow > first && secondNow > second
	}
}

// say tells the test that a point is reached; the channel is closed when the test has answered.
func say(line string) <-chan struct{} {
	answered := make(chan struct{})
	fmt.Println(line)
	go func() {
		Must(bufio.NewReader(os.Stdin).ReadString('\n'))
		close(answered)
	}()
	return answered
}
