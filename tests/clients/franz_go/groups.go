package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "skein/tests/harness"
)

// sessionTimeout is that of members that are going to miss it. All others have the client's default, far longer.
const sessionTimeout = 2 * time.Second

// member is a consumer of a group, at work until it leaves. It commits what it has read.
type member struct {
	cl     *kgo.Client
	done   chan struct{}
	ledger *Ledger

	lock     sync.Mutex
	assigned map[int32]bool
	// given counts the partitions that were ever assigned to it: more than it has when it lost some and got them back.
	given   int
	records []*kgo.Record
}

func inGroup(topic, group string, options ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	}, options...)
}

func join(topic, group string, options ...kgo.Opt) *member {
	return joinWith(NewLedger(), topic, group, options...)
}

func joinWith(ledger *Ledger, topic, group string, options ...kgo.Opt) *member {
	m := &member{done: make(chan struct{}), ledger: ledger, assigned: make(map[int32]bool)}
	taken := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range partitions[topic] {
			delete(m.assigned, partition)
		}
	}
	given := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range partitions[topic] {
			m.assigned[partition] = true
			m.given++
		}
	}
	options = append(options, kgo.OnPartitionsAssigned(given), kgo.OnPartitionsRevoked(taken), kgo.OnPartitionsLost(taken))
	m.cl = client(inGroup(topic, group, options...)...)
	go m.work()
	return m
}

func (m *member) work() {
	defer close(m.done)
	for {
		fetches := m.cl.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		if records := fetches.Records(); len(records) > 0 {
			m.take(records)
		}
		m.cl.AllowRebalance()
	}
}

// take commits what was read.
func (m *member) take(records []*kgo.Record) {
	for _, record := range records {
		m.ledger.Read(record.Partition, record.Offset, record.Value)
	}
	err := m.cl.CommitRecords(Background(), records...)
	for isAway(err) {
		err = m.cl.CommitRecords(Background(), records...)
	}
	// What it read before it stalled, and others have read meanwhile, is not its any more.
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) {
		return
	}
	Check(err == nil, "commit: %v", err)
	for _, record := range records {
		m.ledger.Committed(record.Partition, record.Offset+1)
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	m.records = append(m.records, records...)
}

// isAway tells whether no coordinator has answered for as long as franz-go tries by itself.
func isAway(err error) bool {
	var code *kerr.Error
	return err != nil && !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &code) || code.Retriable)
}

func (m *member) leave() {
	m.cl.CloseAllowingRebalance()
	<-m.done
}

// has returns the partitions that it has, and how many records it has read.
func (m *member) has() (partitions map[int32]bool, read int) {
	m.lock.Lock()
	defer m.lock.Unlock()
	partitions = make(map[int32]bool)
	for partition := range m.assigned {
		partitions[partition] = true
	}
	return partitions, len(m.records)
}

func (m *member) hasPartitions(count int) bool {
	partitions, _ := m.has()
	return len(partitions) == count
}

// Has is what a [Survival] asks for, as the next two.
func (m *member) Has() (map[int32]bool, int) { return m.has() }
func (m *member) Generation() int32          { return m.generation() }
func (m *member) Leave()                     { m.leave() }

func (m *member) generation() int32 {
	_, generation := m.cl.GroupMetadata()
	return generation
}

// share waits until two members have half of the partitions each.
func share(one, other *member, partitions int) {
	Eventually(func() bool {
		first, _ := one.has()
		second, _ := other.has()
		for partition := range second {
			if first[partition] {
				return false
			}
		}
		return len(first) == partitions/2 && len(second) == partitions/2
	}, "they do not share")
}

// spread makes count records for each partition.
func spread(topic string, partitions int32, count int) []*kgo.Record {
	var records []*kgo.Record
	for partition := range partitions {
		for _, record := range values(topic, count) {
			record.Partition = partition
			records = append(records, record)
		}
	}
	return records
}

// membersShare has a member join, another one come, and the first one leave; kept says how many partitions the first one
// keeps while the second one joins.
func membersShare(kept int, balancers ...kgo.GroupBalancer) {
	topic := create(4, nil)
	group := "group-of-" + topic
	write(writer(), spread(topic, 4, 10)...)
	first := join(topic, group, kgo.Balancers(balancers...))
	Eventually(func() bool { _, read := first.has(); return read == 40 }, "not everything was read")
	second := join(topic, group, kgo.Balancers(balancers...))
	share(first, second, 4)
	Equal(first.given, 4+2-kept, "partitions given to the first one")
	first.leave()
	Eventually(func() bool { return second.hasPartitions(4) }, "nobody takes over")
	write(writer(), spread(topic, 4, 1)...)
	Eventually(func() bool { _, read := second.has(); return read >= 4 }, "later records are not read")
	second.leave()
	Equal(len(second.records), 4, "records of the second one: what was committed is read again")
	for _, record := range second.records {
		Equal(record.Offset, 10, "offset")
	}
}

func membersOfAGroupShareThePartitionsAndTakeOver() {
	for _, balancer := range []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer()} {
		membersShare(0, balancer)
	}
}

func membersOfACooperativeGroupShareAndTakeOver() { membersShare(2, kgo.CooperativeStickyBalancer()) }

func aStaticMemberComesBackWithoutARebalance() {
	topic := create(2, nil)
	group := "group-of-" + topic
	other := join(topic, group, kgo.InstanceID("other"))
	static := join(topic, group, kgo.InstanceID("static"))
	share(other, static, 2)
	before, _ := static.has()
	generation, given := other.generation(), other.given
	// A static member that closes does not leave.
	static.leave()
	static = join(topic, group, kgo.InstanceID("static"))
	Eventually(func() bool { return static.hasPartitions(1) }, "it does not come back")
	after, _ := static.has()
	for partition := range before {
		Check(after[partition], "it had %v and has %v", before, after)
	}
	Equal(other.generation(), generation, "generation of the other one")
	Equal(static.generation(), generation, "generation")
	Equal(other.given, given, "partitions given to the other one")

	// Until an administrator removes it.
	left := Must(admin().LeaveGroup(Background(), kadm.LeaveGroup(group).InstanceIDs("static")))
	Check(left["static"].Err == nil, "%v", left["static"].Err)
	static.leave()
	Eventually(func() bool { return other.hasPartitions(2) }, "nobody takes over")
	other.leave()
}

// beAMember is a process of its own, to be stopped and killed. It says how many partitions it has when that changes.
func beAMember(topic, group string) {
	m := join(topic, group, kgo.SessionTimeout(sessionTimeout))
	said := 0
	for {
		if partitions, _ := m.has(); len(partitions) != said {
			said = len(partitions)
			fmt.Println(said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func aMemberThatStallsAndAtLastCrashesIsReplaced() {
	topic := create(4, nil)
	group := "group-of-" + topic
	steady := join(topic, group)
	Eventually(func() bool { return steady.hasPartitions(4) }, "it has not all partitions")
	unsteady := StartProcess("member", topic, group)
	both := func() bool { return steady.hasPartitions(2) && unsteady.Last() == "2" }
	Eventually(both, "they do not share")

	unsteady.Signal(syscall.SIGSTOP)
	Eventually(func() bool { return steady.hasPartitions(4) }, "a member that stalls keeps its partitions")
	write(writer(), spread(topic, 4, 1)...)
	Eventually(func() bool { _, read := steady.has(); return read == 4 }, "records of a member that stalls are not read")
	unsteady.Signal(syscall.SIGCONT)
	Eventually(both, "a member does not come back")

	unsteady.Signal(syscall.SIGKILL)
	Eventually(func() bool { return steady.hasPartitions(4) }, "a member that crashed keeps its partitions")
	Equal(Must(admin().DescribeGroups(Background(), group))[group].Members[0].MemberID, steady.id(), "who is left")
	steady.leave()
	Equal(len(steady.records), 4, "records: what was committed is read again")
}

func aGroupGoesOnThroughKillAndRestart() {
	topic := create(SurvivalPartitions, nil)
	group := "group-of-" + topic
	producer, cl, ledger := writer(), admin(), NewLedger()
	survival := Survival{
		Ledger:  ledger,
		Members: [2]Member{joinWith(ledger, topic, group), joinWith(ledger, topic, group)},
		Write: func(first, partitions int) error {
			var records []*kgo.Record
			for partition := range partitions {
				value := fmt.Append(nil, first+partition)
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(partition), Value: value})
			}
			return producer.ProduceSync(Background(), records...).FirstErr()
		},
		Committed: func(partition int32) (int64, error) {
			offsets, err := cl.FetchOffsets(Background(), group)
			found, _ := offsets.Lookup(topic, partition)
			return max(found.At, 0), errors.Join(err, found.Err)
		},
	}
	survival.Run()
}

func (m *member) id() string {
	id, _ := m.cl.GroupMetadata()
	return id
}

// readInGroup reads count records as a member that commits nothing, and leaves.
func readInGroup(topic, group string, count int, options ...kgo.Opt) []*kgo.Record {
	cl := client(inGroup(topic, group, options...)...)
	defer cl.CloseAllowingRebalance()
	return take(cl, count)
}

func aGroupGoesOnWhereItCommitted() {
	topic := create(2, nil)
	group := "group-of-" + topic
	write(writer(), spread(topic, 2, 10)...)
	cl := admin()
	committed := func(partition int32) kadm.OffsetResponse {
		found, _ := Must(cl.FetchOffsets(Background(), group)).Lookup(topic, partition)
		Check(found.Err == nil, "%v", found.Err)
		return found
	}
	// Without members, with all that a commit may say.
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: 0, Metadata: "seven ☃"})
	offsets.Add(kadm.Offset{Topic: topic, Partition: 1, At: 4, LeaderEpoch: -1})
	Must(0, cl.CommitAllOffsets(Background(), group, offsets))
	Equal(committed(0).Metadata, "seven ☃", "metadata")
	Equal(committed(0).LeaderEpoch, 0, "leader epoch")
	Equal(committed(1).Metadata, "", "metadata")
	Equal(committed(1).LeaderEpoch, -1, "leader epoch")
	long := make(kadm.Offsets)
	long.Add(kadm.Offset{Topic: topic, Partition: 0, At: 8, Metadata: strings.Repeat("x", 4097)})
	err := cl.CommitAllOffsets(Background(), group, long)
	Check(errors.Is(err, kerr.OffsetMetadataTooLarge), "%v", err)

	records := readInGroup(topic, group, 3+6)
	dense(ofPartition(records, 0), 7)
	dense(ofPartition(records, 1), 4)
	// Nothing was committed: it comes again, and is committed now.
	m := join(topic, group)
	Eventually(func() bool { _, read := m.has(); return read == 3+6 }, "not everything came again")
	m.leave()
	Equal(committed(0).At, 10, "committed")
	Equal(committed(1).At, 10, "committed")
	write(writer(), spread(topic, 2, 1)...)
	for _, record := range readInGroup(topic, group, 2) {
		Equal(record.Offset, 10, "offset")
	}
}

func aMemberSeeksBackAndForth() {
	topic := create(1, nil)
	group := "group-of-" + topic
	write(writer(), values(topic, 10)...)
	cl := client(inGroup(topic, group)...)
	defer cl.CloseAllowingRebalance()
	dense(take(cl, 10), 0)
	for _, place := range []int64{3, 9, 0} {
		cl.AllowRebalance()
		cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: place}}})
		dense(take(cl, 10-int(place)), place)
	}
}

func aGroupStartsWhereItIsResetTo() {
	topic := create(1, nil)
	write(writer(), values(topic, 10)...)
	start, end := kgo.NewOffset().AtStart(), kgo.NewOffset().AtEnd()
	dense(readInGroup(topic, "start-of-"+topic, 10, kgo.ConsumeStartOffset(start)), 0)
	// What is committed, and is not there.
	beyond := "beyond-" + topic
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 1000, LeaderEpoch: -1})
	Must(0, admin().CommitAllOffsets(Background(), beyond, offsets))
	dense(readInGroup(topic, beyond, 10, kgo.ConsumeResetOffset(start)), 0)

	cl := client(inGroup(topic, "end-of-"+topic, kgo.ConsumeStartOffset(end))...)
	defer cl.CloseAllowingRebalance()
	// Written until the member, which knows the end only when it has joined, has one of them.
	first := make(chan []*kgo.Record)
	go func() { first <- cl.PollFetches(Background()).Records() }()
	for {
		select {
		case records := <-first:
			Check(records[0].Offset >= 10, "offset %d is before the end", records[0].Offset)
			return
		case <-time.After(100 * time.Millisecond):
			write(writer(), values(topic, 1)...)
		}
	}
}

func groupsAreListedDescribedChangedAndDeleted() {
	topic := create(2, nil)
	group := "group-of-" + topic
	write(writer(), spread(topic, 2, 5)...)
	cl := admin()
	m := join(topic, group, kgo.Balancers(kgo.RangeBalancer()), kgo.InstanceID("one"), kgo.ClientID("described"))
	Eventually(func() bool { _, read := m.has(); return read == 10 }, "not everything was read")

	state := func(state string) kadm.ListedGroup { return Must(cl.ListGroups(Background(), state))[group] }
	Equal(state("Stable").ProtocolType, "consumer", "protocol type")
	Equal(state("Empty").Group, "", "a group among those that are empty")
	described := Must(cl.DescribeGroups(Background(), group))[group]
	Check(described.Err == nil, "%v", described.Err)
	Equal(described.State, "Stable", "state")
	Equal(described.Protocol, "range", "protocol")
	Equal(len(described.Members), 1, "members")
	one := described.Members[0]
	Equal(one.MemberID, m.id(), "member id")
	Equal(*one.InstanceID, "one", "instance id")
	Equal(one.ClientID, "described", "client id")
	subscribed, _ := one.Join.AsConsumer()
	Equal(strings.Join(subscribed.Topics, " "), topic, "subscription")
	assigned, _ := one.Assigned.AsConsumer()
	Equal(len(assigned.Topics[0].Partitions), 2, "assigned partitions")

	refused := func(err error, expected *kerr.Error) {
		Check(errors.Is(err, expected), "%v instead of %v", err, expected)
	}
	partitions := make(kadm.TopicsSet)
	partitions.Add(topic, 0)
	deleteOffset := func() error {
		deleted := Must(cl.DeleteOffsets(Background(), group, partitions))
		return deleted[topic][0]
	}
	remove := func() error { return Must(cl.DeleteGroups(Background(), group))[group].Err }
	move := make(kadm.Offsets)
	move.Add(kadm.Offset{Topic: topic, Partition: 1, At: 2, LeaderEpoch: -1})
	refused(remove(), kerr.NonEmptyGroup)
	refused(deleteOffset(), kerr.GroupSubscribedToTopic)
	refused(cl.CommitAllOffsets(Background(), group, move), kerr.UnknownMemberID)

	left := Must(cl.LeaveGroup(Background(), kadm.LeaveGroup(group).InstanceIDs("one")))
	Check(left["one"].Err == nil, "%v", left["one"].Err)
	m.leave()
	Eventually(func() bool { return state("Empty").Group == group }, "the group is not empty")
	Must(0, cl.CommitAllOffsets(Background(), group, move))
	Check(deleteOffset() == nil, "an offset is not deleted")
	offsets := Must(cl.FetchOffsets(Background(), group))
	moved, _ := offsets.Lookup(topic, 1)
	Equal(moved.At, 2, "offset")
	_, found := offsets.Lookup(topic, 0)
	Check(!found, "an offset is there that was deleted")
	Check(remove() == nil, "the group is not deleted")
	refused(remove(), kerr.GroupIDNotFound)
	Equal(Must(cl.ListGroups(Background()))[group].Group, "", "a group that was deleted")
	Equal(len(Must(cl.FetchOffsets(Background(), group))), 0, "offsets of a group that was deleted")
}
