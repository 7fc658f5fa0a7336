import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups of the classic protocol. */
final class Groups {
    /** The session timeout of members that are going to miss it. All others have the client's default, far longer. */
    private static final int SESSION_TIMEOUT_MS = 2_000;

    private static Map<String, Object> by(Class<?> assignor) {
        return Map.of("partition.assignment.strategy", assignor.getName());
    }

    private static void share(Member one, Member other, int partitions) throws Exception {
        Scenarios.eventually(() -> {
            Set<Integer> both = new TreeSet<>(one.assigned());
            both.addAll(other.assigned());
            return one.has(partitions / 2) && other.has(partitions / 2) && both.size() == partitions;
        }, "they do not share");
    }

    /**
     * Has a member join, another one come, and the first one leave; kept says how many partitions the first one keeps while
     * the second one joins.
     */
    private static void membersShare(int kept, Class<?> assignor) throws Exception {
        String topic = Scenarios.create(4);
        String group = "group-of-" + topic;
        Scenarios.spread(topic, 4, 10);
        Member first = new Member(topic, group, by(assignor));
        Scenarios.eventually(() -> first.read().size() == 40, "not everything was read");
        Member second = new Member(topic, group, by(assignor));
        share(first, second, 4);
        Scenarios.equal(first.given(), 4 + 2 - kept, "partitions given to the first one");
        first.leave();
        Scenarios.eventually(() -> second.has(4), "nobody takes over");
        Scenarios.spread(topic, 4, 1);
        Scenarios.eventually(() -> second.read().size() >= 4, "later records are not read");
        second.leave();
        Scenarios.equal(second.read().size(), 4, "records of the second one, if what was committed is not read again");
        second.read().forEach(record -> Scenarios.equal(record.offset(), 10L, "offset"));
    }

    public static void membersOfAGroupShareThePartitionsAndTakeOver() throws Exception {
        for (Class<?> assignor : List.of(RangeAssignor.class, RoundRobinAssignor.class, StickyAssignor.class)) {
            membersShare(0, assignor);
        }
    }

    public static void membersOfACooperativeGroupShareAndTakeOver() throws Exception {
        membersShare(2, CooperativeStickyAssignor.class);
    }

    private static Member staticMember(String topic, String group, String name) {
        return new Member(topic, group, Map.of("group.instance.id", name));
    }

    public static void aStaticMemberComesBackWithoutARebalance() throws Exception {
        String topic = Scenarios.create(2);
        String group = "group-of-" + topic;
        Member other = staticMember(topic, group, "other");
        Member before = staticMember(topic, group, "static");
        share(other, before, 2);
        int generation = before.metadata().generationId();
        int given = other.given();
        // A static member that closes does not leave.
        before.leave();
        Member again = staticMember(topic, group, "static");
        Scenarios.eventually(() -> again.has(1), "it does not come back");
        Scenarios.equal(again.metadata().generationId(), generation, "generation");
        Scenarios.equal(other.metadata().generationId(), generation, "generation of the other one");
        Scenarios.equal(other.given(), given, "partitions given to the other one");

        // Of two with one name, the later one stays.
        Member twin = staticMember(topic, group, "static");
        Scenarios.eventually(() -> again.ended() != null, "two members with one instance id");
        Scenarios.refused(FencedInstanceIdException.class, again::leave);
        Scenarios.eventually(() -> twin.has(1), "the later one has no partition");

        // Until an administrator removes it.
        try (Admin admin = Scenarios.admin()) {
            var gone = new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("static")));
            twin.leave();
            Scenarios.get(admin.removeMembersFromConsumerGroup(group, gone).all());
        }
        Scenarios.eventually(() -> other.has(2), "nobody takes over");
        other.leave();
    }

    /** A process of its own, to be stopped and killed. It says how many partitions it has when that changes. */
    static void beAMember(String topic, String group) throws Exception {
        Member member = new Member(topic, group, Map.of("session.timeout.ms", SESSION_TIMEOUT_MS));
        for (int said = 0;; Thread.sleep(20)) {
            if (!member.has(said)) {
                said = member.assigned().size();
                System.out.println(said);
            }
        }
    }

    public static void aMemberThatStallsAndAtLastCrashesIsReplaced() throws Exception {
        String topic = Scenarios.create(4);
        String group = "group-of-" + topic;
        OtherProcess unsteady = new OtherProcess("member", topic, group);
        Member steady = new Member(topic, group, Map.of());
        Scenarios.eventually(() -> steady.has(2) && unsteady.last().equals("2"), "they do not share");

        unsteady.signal("STOP");
        Scenarios.eventually(() -> steady.has(4), "a member that stalls keeps its partitions");
        Scenarios.spread(topic, 4, 1);
        Scenarios.eventually(() -> steady.read().size() == 4, "records of a member that stalls are not read");
        unsteady.signal("CONT");
        Scenarios.eventually(() -> steady.has(2) && unsteady.last().equals("2"), "a member does not come back");

        unsteady.signal("KILL");
        Scenarios.eventually(() -> steady.has(4), "a member that crashed keeps its partitions");
        steady.leave();
        Scenarios.equal(steady.read().size(), 4, "records, if what was committed is not read again");
    }

    /**
     * Reads, commits and writes on through a kill -9 and a restart of the broker, which the test does when it has read the
     * line. Nobody writes to the last partition after that: what was committed of it must be there still.
     */
    public static void aGroupGoesOnThroughKillAndRestart() throws Exception {
        String topic = Scenarios.create(5);
        String group = "group-of-" + topic;
        Ledger ledger = new Ledger();
        Member first = new Member(topic, group, Map.of(), ledger);
        Member second = new Member(topic, group, Map.of(), ledger);
        try (var writer = new Writer(topic)) {
            writer.until(5, bothRead(first, second), "they do not share");
            Scenarios.eventually(() -> ledger.isAllCommitted(writer.written()), "not everything is committed");
            int generation = first.metadata().generationId();
            writer.until(4, Scenarios.say("kill me")::isDone, "the test does not answer");
            writer.until(4, bothRead(first, second), "they do not go on");
            for (Member member : List.of(first, second)) {
                Scenarios.check(member.metadata().generationId() >= generation, "the generation goes back");
            }
            first.leave();
            writer.until(4, () -> second.has(5), "nobody takes over");
            Scenarios.eventually(() -> ledger.hasRead(writer.written()), "a record is lost");
            second.leave();
        }
        try (Admin admin = Scenarios.admin()) {
            var offsets = Scenarios.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            Map<Integer, Long> committed = new TreeMap<>();
            offsets.forEach((partition, offset) -> committed.put(partition.partition(), offset.offset()));
            Scenarios.equal(committed, new TreeMap<>(ledger.next()), "committed");
        }
    }

    /** Whether each of them has read something since. */
    private static BooleanSupplier bothRead(Member one, Member other) {
        int before = one.read().size();
        int ofOther = other.read().size();
        return () -> {
            Scenarios.check(one.ended() == null && other.ended() == null, one.ended() + ", " + other.ended());
            return one.read().size() > before && other.read().size() > ofOther;
        };
    }

    /** Row M57: a member lives, and its application does not ask for records. */
    public static void aMemberThatDoesNotPollIsReplaced() throws Exception {
        String topic = Scenarios.create(2);
        String group = "group-of-" + topic;
        Scenarios.spread(topic, 2, 1);
        Map<String, Object> settings = Map.of("group.id", group, "max.poll.interval.ms", 1_000);
        try (var busy = Scenarios.consumer(settings)) {
            busy.subscribe(List.of(topic));
            Scenarios.take(busy, 2);
            Member other = new Member(topic, group, Map.of());
            Scenarios.eventually(() -> other.read().size() == 2, "nobody takes over and reads what is not committed");
            Scenarios.refused(CommitFailedException.class, busy::commitSync);
            other.leave();
        }
    }

    /** Reads count records as a member that commits nothing, and leaves. */
    private static List<ConsumerRecord<byte[], byte[]>> readInGroup(
            String topic, String group, int count, Map<String, Object> settings) {
        try (var consumer = member(topic, group, settings)) {
            return Scenarios.take(consumer, count);
        }
    }

    private static KafkaConsumer<byte[], byte[]> member(String topic, String group, Map<String, Object> settings) {
        Map<String, Object> all = new java.util.HashMap<>(settings);
        all.put("group.id", group);
        var consumer = Scenarios.consumer(all);
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static List<ConsumerRecord<byte[], byte[]>> of(
            TopicPartition partition, List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().filter(record -> record.partition() == partition.partition()).toList();
    }

    public static void aGroupGoesOnWhereItCommitted() throws Exception {
        String topic = Scenarios.create(2);
        String group = "group-of-" + topic;
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        Scenarios.spread(topic, 2, 10);
        var seven = new OffsetAndMetadata(7, Optional.of(0), "seven ☃");
        var four = new OffsetAndMetadata(4, Optional.empty(), "");
        // Without members, with all that a commit may say.
        try (var simple = Scenarios.consumer(Map.of("group.id", group))) {
            simple.assign(List.of(zero, one));
            Scenarios.check(simple.committed(Set.of(zero)).get(zero) == null, "an offset of a group that is not there");
            simple.commitSync(Map.of(zero, seven));
            var told = new CompletableFuture<Exception>();
            simple.commitAsync(Map.of(one, four), (offsets, error) -> told.complete(error));
            while (!told.isDone()) {
                simple.poll(Duration.ofMillis(20));
            }
            Scenarios.check(told.get() == null, "commitAsync: " + told.get());
            Scenarios.equal(simple.committed(Set.of(zero, one)), Map.of(zero, seven, one, four), "committed");
            var long_ = new OffsetAndMetadata(8, "x".repeat(4097));
            Scenarios.refused(OffsetMetadataTooLarge.class, () -> simple.commitSync(Map.of(zero, long_)));
        }
        var records = readInGroup(topic, group, 3 + 6, Map.of());
        Scenarios.dense(of(zero, records), 7);
        Scenarios.dense(of(one, records), 4);
        // Nothing was committed: it comes again, and is committed now.
        Member member = new Member(topic, group, Map.of());
        Scenarios.eventually(() -> member.read().size() == 3 + 6, "not everything came again");
        member.leave();
        try (Admin admin = Scenarios.admin()) {
            var committed = Scenarios.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            Scenarios.equal(committed.get(zero).offset(), 10L, "committed");
            Scenarios.equal(committed.get(one).offset(), 10L, "committed");
            Scenarios.equal(committed.get(one).leaderEpoch(), Optional.of(0), "leader epoch of what was read");
        }
        Scenarios.spread(topic, 2, 1);
        readInGroup(topic, group, 2, Map.of()).forEach(record -> Scenarios.equal(record.offset(), 10L, "offset"));
    }

    public static void aMemberSeeksBackAndForth() throws Exception {
        String topic = Scenarios.create(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Scenarios.spread(topic, 1, 10);
        try (var consumer = member(topic, "group-of-" + topic, Map.of())) {
            Scenarios.dense(Scenarios.take(consumer, 10), 0);
            for (int place : new int[] {3, 9, 0}) {
                consumer.seek(partition, place);
                Scenarios.dense(Scenarios.take(consumer, 10 - place), place);
            }
            consumer.seekToBeginning(List.of(partition));
            Scenarios.dense(Scenarios.take(consumer, 10), 0);
            consumer.seekToEnd(List.of(partition));
            Scenarios.equal(consumer.position(partition), 10L, "position");
        }
    }

    public static void aGroupStartsWhereItIsResetTo() throws Exception {
        String topic = Scenarios.create(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Scenarios.spread(topic, 1, 10);
        Scenarios.dense(readInGroup(topic, "start-of-" + topic, 10, Map.of()), 0);
        try (var none = member(topic, "none-of-" + topic, Map.of("auto.offset.reset", "none"))) {
            Scenarios.refused(NoOffsetForPartitionException.class, () -> Scenarios.take(none, 1));
        }
        // What is committed, and is not there.
        try (Admin admin = Scenarios.admin()) {
            var beyond = Map.of(partition, new OffsetAndMetadata(1000));
            Scenarios.get(admin.alterConsumerGroupOffsets("beyond-" + topic, beyond).all());
        }
        Scenarios.dense(readInGroup(topic, "beyond-" + topic, 10, Map.of()), 0);
        try (var end = member(topic, "end-of-" + topic, Map.of("auto.offset.reset", "latest"))) {
            while (end.assignment().isEmpty()) {
                end.poll(Duration.ofMillis(50));
            }
            Scenarios.equal(end.position(partition), 10L, "position");
            Scenarios.spread(topic, 1, 1);
            Scenarios.dense(Scenarios.take(end, 1), 10);
        }
    }

    public static void groupsAreListedDescribedChangedAndDeleted() throws Exception {
        String topic = Scenarios.create(2);
        String group = "group-of-" + topic;
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        Scenarios.spread(topic, 2, 5);
        Member member = new Member(topic, group,
                Map.of("group.instance.id", "one", "client.id", "described", "partition.assignment.strategy",
                        RangeAssignor.class.getName()));
        Scenarios.eventually(() -> member.read().size() == 10, "not everything was read");
        try (Admin admin = Scenarios.admin()) {
            Scenarios.check(isListed(admin, group, GroupState.STABLE), "it is not listed");
            Scenarios.check(!isListed(admin, group, GroupState.EMPTY), "it is listed as empty");
            var described = Scenarios.get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            Scenarios.equal(described.groupState(), GroupState.STABLE, "state");
            Scenarios.equal(described.partitionAssignor(), "range", "assignor");
            var found = described.members().iterator().next();
            Scenarios.equal(found.consumerId(), member.metadata().memberId(), "member id");
            Scenarios.equal(found.groupInstanceId(), Optional.of("one"), "instance id");
            Scenarios.equal(found.clientId(), "described", "client id");
            Scenarios.equal(found.assignment().topicPartitions(), Set.of(zero, one), "assignment");
            var classic = Scenarios.get(admin.describeClassicGroups(List.of(group)).all()).get(group);
            Scenarios.equal(classic.protocolData(), "range", "protocol");
            Scenarios.equal(classic.members().size(), 1, "members");

            var move = Map.of(one, new OffsetAndMetadata(2));
            Scenarios.Call delete = () -> Scenarios.get(admin.deleteConsumerGroups(List.of(group)).all());
            Scenarios.Call deleteOffset = () -> Scenarios.get(admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
            Scenarios.Call alter = () -> Scenarios.get(admin.alterConsumerGroupOffsets(group, move).all());
            Scenarios.refused(GroupNotEmptyException.class, delete);
            Scenarios.refused(GroupSubscribedToTopicException.class, deleteOffset);
            Scenarios.refused(UnknownMemberIdException.class, alter);

            member.leave();
            Scenarios.get(admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
            Scenarios.check(isListed(admin, group, GroupState.EMPTY), "it is not empty");
            alter.run();
            deleteOffset.run();
            var offsets = Scenarios.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            Scenarios.equal(offsets, move, "offsets");
            delete.run();
            Scenarios.refused(GroupIdNotFoundException.class, delete);
            Scenarios.refused(GroupIdNotFoundException.class, () ->
                    Scenarios.get(admin.describeConsumerGroups(List.of(group)).all()));
            Scenarios.check(!isListed(admin, group, GroupState.EMPTY), "it is listed, and was deleted");
        }
    }

    private static boolean isListed(Admin admin, String group, GroupState state) throws Exception {
        var options = new ListGroupsOptions().inGroupStates(Set.of(state));
        return Scenarios.get(admin.listGroups(options).all()).stream().anyMatch(one -> one.groupId().equals(group));
    }
}
