package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	. "skein/tests/harness"
)

// sessionTimeout is that of members that are going to miss it. All others have the client's default, far longer.
const sessionTimeout = 2 * time.Second

type option = func(*sarama.Config)

// member is a consumer of a group, at work until it leaves. It commits what it has read.
type member struct {
	group   sarama.ConsumerGroup
	cancel  context.CancelFunc
	done    chan struct{}
	commits bool
	ledger  *Ledger

	lock     sync.Mutex
	assigned map[int32]bool
	// given counts the partitions that were ever assigned to it: more than it has when it lost some and got them back.
	given   int
	session sarama.ConsumerGroupSession
	read    []*sarama.ConsumerMessage
}

func join(topic, group string, options ...option) *member {
	return (&member{commits: true}).join(topic, group, options...)
}

func (m *member) join(topic, group string, options ...option) *member {
	m.done, m.assigned = make(chan struct{}), make(map[int32]bool)
	m.group = Must(sarama.NewConsumerGroup(bootstrap(), group, settings(options...)))
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			err := m.group.Consume(ctx, []string{topic}, m)
			// After it stalled it is nobody, and joins as somebody new.
			isLate := errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration)
			Check(err == nil || isLate || m.ledger != nil && isAway(err), "consume: %v", err)
		}
	}()
	return m
}

// isAway tells whether no coordinator has answered for as long as sarama tries by itself.
func isAway(err error) bool {
	var code sarama.KError
	return !errors.As(err, &code) ||
		code == sarama.ErrNotCoordinatorForConsumer || code == sarama.ErrOffsetsLoadInProgress ||
		code == sarama.ErrConsumerCoordinatorNotAvailable
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.change(func() {
		m.assigned[claim.Partition()] = true
		m.given++
	})
	defer m.change(func() { delete(m.assigned, claim.Partition()) })
	for {
		select {
		case message, isOpen := <-claim.Messages():
			if !isOpen {
				return nil
			}
			if m.ledger != nil {
				m.ledger.Read(message.Partition, message.Offset, message.Value)
			}
			if m.commits {
				session.MarkMessage(message, "")
				if len(claim.Messages()) == 0 {
					session.Commit()
				}
			}
			m.change(func() { m.read = append(m.read, message) })
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) change(change func()) {
	m.lock.Lock()
	defer m.lock.Unlock()
	change()
}

func (m *member) leave() {
	m.cancel()
	<-m.done
	Must(0, m.group.Close())
}

func (m *member) partitions() map[int32]bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	partitions := make(map[int32]bool)
	for partition := range m.assigned {
		partitions[partition] = true
	}
	return partitions
}

func (m *member) has(count int) func() bool {
	return func() bool { return len(m.partitions()) == count }
}

func (m *member) hasRead(count int) func() bool {
	return func() bool {
		m.lock.Lock()
		defer m.lock.Unlock()
		return len(m.read) >= count
	}
}

func (m *member) generation() int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.session.GenerationID()
}

// Has is what a [Survival] asks for, as the next two.
func (m *member) Has() (map[int32]bool, int) {
	partitions := m.partitions()
	m.lock.Lock()
	defer m.lock.Unlock()
	return partitions, len(m.read)
}
func (m *member) Generation() int32 { return m.generation() }
func (m *member) Leave()            { m.leave() }

// share waits until two members have half of the partitions each.
func share(one, other *member, partitions int) {
	Eventually(func() bool {
		first, second := one.partitions(), other.partitions()
		for partition := range second {
			if first[partition] {
				return false
			}
		}
		return len(first) == partitions/2 && len(second) == partitions/2
	}, "they do not share")
}

// spread writes count messages to each partition.
func spread(topic string, partitions int32, count int) {
	var messages []*sarama.ProducerMessage
	for partition := range partitions {
		for index := range count {
			value := sarama.StringEncoder(fmt.Sprint(index))
			messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: value})
		}
	}
	write(sarama.CompressionNone, messages...)
}

func by(strategy sarama.BalanceStrategy) option {
	return func(config *sarama.Config) {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	}
}

// membersShare has a member join, another one come, and the first one leave; kept says how many partitions the first one
// keeps while the second one joins.
func membersShare(kept int, strategy func() sarama.BalanceStrategy) {
	topic := create(4)
	group := "group-of-" + topic
	spread(topic, 4, 10)
	first := join(topic, group, by(strategy()))
	Eventually(first.hasRead(40), "not everything was read")
	second := join(topic, group, by(strategy()))
	share(first, second, 4)
	Equal(first.given, 4+2-kept, "partitions given to the first one")
	first.leave()
	Eventually(second.has(4), "nobody takes over")
	spread(topic, 4, 1)
	Eventually(second.hasRead(4), "later messages are not read")
	second.leave()
	Equal(len(second.read), 4, "messages of the second one: what was committed is read again")
	for _, message := range second.read {
		Equal(message.Offset, 10, "offset")
	}
}

func membersOfAGroupShareThePartitionsAndTakeOver() {
	membersShare(0, sarama.NewBalanceStrategyRange)
	membersShare(0, sarama.NewBalanceStrategyRoundRobin)
	membersShare(0, sarama.NewBalanceStrategySticky)
}

func membersOfACooperativeGroupShareAndTakeOver() {
	membersShare(2, sarama.NewBalanceStrategyCooperativeSticky)
}

func instance(id string) option {
	return func(config *sarama.Config) { config.Consumer.Group.InstanceId = id }
}

func removeInstance(group, id string) {
	cl := admin()
	defer cl.Close()
	left := Must(cl.RemoveMemberFromConsumerGroup(group, []string{id}))
	Equal(left.Members[0].Err, sarama.ErrNoError, "the removal of a member")
}

func aStaticMemberComesBackWithoutARebalance() {
	topic := create(2)
	group := "group-of-" + topic
	other := join(topic, group, instance("other"))
	static := join(topic, group, instance("static"))
	share(other, static, 2)
	before := static.partitions()
	generation, given := other.generation(), other.given
	// A static member that closes does not leave.
	static.leave()
	static = join(topic, group, instance("static"))
	Eventually(static.has(1), "it does not come back")
	for partition := range static.partitions() {
		Check(before[partition], "it had %v and has %d", before, partition)
	}
	Equal(other.generation(), generation, "generation of the other one")
	Equal(static.generation(), generation, "generation")
	Equal(other.given, given, "partitions given to the other one")

	// Until an administrator removes it.
	static.leave()
	removeInstance(group, "static")
	Eventually(other.has(2), "nobody takes over")
	other.leave()
}

// beAMember is a process of its own, to be stopped and killed. It says how many partitions it has when that changes.
func beAMember(topic, group string) {
	m := join(topic, group, func(config *sarama.Config) { config.Consumer.Group.Session.Timeout = sessionTimeout })
	said := 0
	for {
		if partitions := len(m.partitions()); partitions != said {
			said = partitions
			fmt.Println(said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func aMemberThatStallsAndAtLastCrashesIsReplaced() {
	topic := create(4)
	group := "group-of-" + topic
	steady := join(topic, group)
	Eventually(steady.has(4), "it has not all partitions")
	unsteady := StartProcess("member", topic, group)
	both := func() bool { return steady.has(2)() && unsteady.Last() == "2" }
	Eventually(both, "they do not share")

	unsteady.Signal(syscall.SIGSTOP)
	Eventually(steady.has(4), "a member that stalls keeps its partitions")
	spread(topic, 4, 1)
	Eventually(steady.hasRead(4), "messages of a member that stalls are not read")
	unsteady.Signal(syscall.SIGCONT)
	Eventually(both, "a member does not come back")

	unsteady.Signal(syscall.SIGKILL)
	Eventually(steady.has(4), "a member that crashed keeps its partitions")
	steady.leave()
	Equal(len(steady.read), 4, "messages: what was committed is read again")
}

func aGroupGoesOnThroughKillAndRestart() {
	topic := create(SurvivalPartitions)
	group := "group-of-" + topic
	ledger, cl := NewLedger(), admin()
	member := func() Member { return (&member{commits: true, ledger: ledger}).join(topic, group) }
	producer := Must(sarama.NewSyncProducer(bootstrap(), settings()))
	survival := Survival{
		Ledger:  ledger,
		Members: [2]Member{member(), member()},
		Write: func(first, partitions int) error {
			var messages []*sarama.ProducerMessage
			for partition := range partitions {
				value := sarama.StringEncoder(fmt.Sprint(first + partition))
				messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(partition), Value: value})
			}
			return producer.SendMessages(messages)
		},
		// sarama does not tell whether a commit was acknowledged.
		Committed: func(partition int32) (int64, error) {
			found, err := cl.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: {topic: {partition}}})
			if err != nil {
				return 0, err
			}
			block := found[group].Blocks[topic][partition]
			if found[group].Err != sarama.ErrNoError {
				return 0, found[group].Err
			}
			if block == nil || block.Offset < 0 {
				return 0, nil
			}
			return block.Offset, nil
		},
	}
	survival.Run()
}

// committed is what a group has committed, and nil for nothing.
func committed(group, topic string, partition int32) *sarama.OffsetFetchResponseBlock {
	cl := admin()
	defer cl.Close()
	asked := map[string]map[string][]int32{group: {topic: {partition}}}
	found := Must(cl.ListConsumerGroupOffsetsBatch(asked))[group]
	Equal(found.Err, sarama.ErrNoError, "offsets of a group")
	block := found.Blocks[topic][partition]
	if block == nil || block.Offset < 0 {
		return nil
	}
	Equal(block.Err, sarama.ErrNoError, "offset of a partition")
	return block
}

// alter commits for a group without members.
func alter(group, topic string, partition int32, offset sarama.OffsetAndMetadata) error {
	cl := admin()
	defer cl.Close()
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: offset}}
	answer := Must(cl.AlterConsumerGroupOffsets(group, offsets, nil))
	if err := answer.Errors[topic][partition]; err != sarama.ErrNoError {
		return err
	}
	return nil
}

// readInGroup reads count messages as a member that commits nothing, and leaves; those of each partition are apart.
func readInGroup(topic, group string, count int, options ...option) map[int32][]*sarama.ConsumerMessage {
	m := (&member{}).join(topic, group, options...)
	Eventually(m.hasRead(count), "not everything is read")
	m.leave()
	Equal(len(m.read), count, "messages")
	found := make(map[int32][]*sarama.ConsumerMessage)
	for _, message := range m.read {
		found[message.Partition] = append(found[message.Partition], message)
	}
	return found
}

func dense(messages []*sarama.ConsumerMessage, first int64, count int) {
	Equal(len(messages), count, "messages of a partition")
	for index, message := range messages {
		Equal(message.Offset, first+int64(index), "offset")
	}
}

func aGroupGoesOnWhereItCommitted() {
	topic := create(2)
	group := "group-of-" + topic
	spread(topic, 2, 10)
	Check(committed(group, topic, 0) == nil, "an offset of a group that is not there")
	// Without members, with all that a commit may say.
	Must(0, alter(group, topic, 0, sarama.OffsetAndMetadata{Offset: 7, LeaderEpoch: 0, Metadata: "seven ☃"}))
	Must(0, alter(group, topic, 1, sarama.OffsetAndMetadata{Offset: 4, LeaderEpoch: -1}))
	Equal(committed(group, topic, 0).Metadata, "seven ☃", "metadata")
	Equal(committed(group, topic, 0).LeaderEpoch, 0, "leader epoch")
	Equal(committed(group, topic, 1).Offset, 4, "offset")
	Equal(committed(group, topic, 1).LeaderEpoch, -1, "leader epoch")
	long := sarama.OffsetAndMetadata{Offset: 8, LeaderEpoch: -1, Metadata: strings.Repeat("x", 4097)}
	refused(alter(group, topic, 0, long), sarama.ErrOffsetMetadataTooLarge)

	messages := readInGroup(topic, group, 3+6)
	dense(messages[0], 7, 3)
	dense(messages[1], 4, 6)
	// Nothing was committed: it comes again, and is committed now.
	m := join(topic, group)
	Eventually(m.hasRead(3+6), "not everything came again")
	m.leave()
	Equal(committed(group, topic, 0).Offset, 10, "committed")
	Equal(committed(group, topic, 1).Offset, 10, "committed")
	spread(topic, 2, 1)
	for _, messages := range readInGroup(topic, group, 2) {
		dense(messages, 10, 1)
	}
}

// aMemberSeeksBackAndForth in the way that sarama has: it commits the place, and has its session start again.
func aMemberSeeksBackAndForth() {
	topic := create(1)
	group := "group-of-" + topic
	spread(topic, 1, 10)
	m := join(topic, group)
	Eventually(m.hasRead(10), "not everything was read")
	for _, place := range []int64{3, 9, 0} {
		m.session.ResetOffset(topic, 0, place, "")
		m.session.Commit()
		m.leave()
		Equal(committed(group, topic, 0).Offset, place, "committed")
		m = join(topic, group)
		rest := 10 - int(place)
		Eventually(m.hasRead(rest), "it does not go on from there")
		dense(m.read, place, rest)
	}
	m.leave()
}

func aGroupStartsWhereItIsResetTo() {
	topic := create(1)
	spread(topic, 1, 10)
	dense(readInGroup(topic, "start-of-"+topic, 10)[0], 0, 10)
	// What is committed, and is not there.
	Must(0, alter("beyond-"+topic, topic, 0, sarama.OffsetAndMetadata{Offset: 1000, LeaderEpoch: -1}))
	dense(readInGroup(topic, "beyond-"+topic, 10)[0], 0, 10)

	m := join(topic, "end-of-"+topic, func(config *sarama.Config) { config.Consumer.Offsets.Initial = sarama.OffsetNewest })
	// A claim starts where the end was when it was made.
	Eventually(m.has(1), "it has no partition")
	spread(topic, 1, 1)
	Eventually(m.hasRead(1), "nothing is read behind the end")
	m.leave()
	dense(m.read, 10, 1)
}

func groupsAreListedDescribedChangedAndDeleted() {
	topic := create(2)
	group := "group-of-" + topic
	spread(topic, 2, 5)
	cl := admin()
	defer cl.Close()
	m := join(topic, group, by(sarama.NewBalanceStrategyRange()), instance("one"),
		func(config *sarama.Config) { config.ClientID = "described" })
	Eventually(m.hasRead(10), "not everything was read")

	Equal(Must(cl.ListConsumerGroups())[group], "consumer", "protocol type")
	describe := func() *sarama.GroupDescription { return Must(cl.DescribeConsumerGroups([]string{group}))[0] }
	described := describe()
	Equal(described.Err, sarama.ErrNoError, "error")
	Equal(described.State, "Stable", "state")
	Equal(described.Protocol, "range", "protocol")
	Equal(len(described.Members), 1, "members")
	one := described.Members[m.session.MemberID()]
	Equal(*one.GroupInstanceId, "one", "instance id")
	Equal(one.ClientId, "described", "client id")
	Equal(len(Must(one.GetMemberAssignment()).Topics[topic]), 2, "assigned partitions")
	Equal(strings.Join(Must(one.GetMemberMetadata()).Topics, " "), topic, "subscription")

	move := func() error { return alter(group, topic, 1, sarama.OffsetAndMetadata{Offset: 2, LeaderEpoch: -1}) }
	refused(cl.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup)
	refused(cl.DeleteConsumerGroupOffset(group, topic, 0), sarama.ErrGroupSubscribedToTopic)
	refused(move(), sarama.ErrUnknownMemberId)

	m.leave()
	removeInstance(group, "one")
	Equal(describe().State, "Empty", "state")
	Must(0, move())
	Must(0, cl.DeleteConsumerGroupOffset(group, topic, 0))
	Equal(committed(group, topic, 1).Offset, 2, "offset")
	Check(committed(group, topic, 0) == nil, "an offset is there that was deleted")
	Must(0, cl.DeleteConsumerGroup(group))
	refused(cl.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound)
	_, isListed := Must(cl.ListConsumerGroups())[group]
	Check(!isListed, "a group that was deleted is listed")
	Check(committed(group, topic, 1) == nil, "an offset of a group that was deleted")
}
