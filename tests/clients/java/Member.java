import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** A consumer of a group, at work in a thread of its own until it leaves. It commits what it has read. */
final class Member extends Thread implements ConsumerRebalanceListener {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Ledger ledger;
    /** Read, and not committed yet. */
    private final List<ConsumerRecord<byte[], byte[]>> pending = new ArrayList<>();
    private final Set<Integer> assigned = new TreeSet<>();
    private final List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    private int given;
    private boolean isLeaving;
    private ConsumerGroupMetadata metadata;
    private Throwable ended;

    Member(String topic, String group, Map<String, Object> settings) {
        this(topic, group, settings, new Ledger());
    }

    /** A member of a group that keeps a ledger. */
    Member(String topic, String group, Map<String, Object> settings, Ledger ledger) {
        this.ledger = ledger;
        Map<String, Object> all = new HashMap<>(settings);
        all.put("group.id", group);
        consumer = Scenarios.consumer(all);
        consumer.subscribe(List.of(topic), this);
        start();
    }

    @Override
    public void run() {
        try (consumer) {
            while (!isLeaving()) {
                List<ConsumerRecord<byte[], byte[]>> polled = new ArrayList<>();
                consumer.poll(Duration.ofMillis(100)).forEach(polled::add);
                polled.forEach(ledger::read);
                pending.addAll(polled);
                if (!pending.isEmpty()) {
                    try {
                        consumer.commitSync();
                        pending.forEach(ledger::committed);
                        pending.clear();
                    } catch (RebalanceInProgressException again) {
                        // What it keeps, it commits after it has joined again.
                    } catch (CommitFailedException late) {
                        // What it read before it stalled, and others have read meanwhile, is not its any more.
                        pending.clear();
                        polled.clear();
                    }
                }
                note(polled);
            }
        } catch (Exception | AssertionError error) {
            end(error);
        }
    }

    private synchronized boolean isLeaving() {
        return isLeaving;
    }

    private synchronized void note(List<ConsumerRecord<byte[], byte[]>> polled) {
        read.addAll(polled);
        metadata = consumer.groupMetadata();
    }

    private synchronized void end(Throwable error) {
        ended = error;
    }

    @Override
    public synchronized void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> assigned.add(partition.partition()));
        given += partitions.size();
        metadata = consumer.groupMetadata();
    }

    @Override
    public synchronized void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> assigned.remove(partition.partition()));
        pending.removeIf(record -> partitions.contains(new TopicPartition(record.topic(), record.partition())));
    }

    /** Stops; a dynamic member says so to the coordinator. */
    void leave() throws Exception {
        synchronized (this) {
            isLeaving = true;
        }
        join();
        if (ended instanceof Exception error) {
            throw error;
        }
        Scenarios.check(ended == null, "" + ended);
    }

    synchronized Set<Integer> assigned() {
        return new TreeSet<>(assigned);
    }

    boolean has(int partitions) {
        return assigned().size() == partitions;
    }

    /** How many partitions were ever assigned to it: more than it has when it lost some and got them back. */
    synchronized int given() {
        return given;
    }

    synchronized List<ConsumerRecord<byte[], byte[]>> read() {
        return new ArrayList<>(read);
    }

    synchronized ConsumerGroupMetadata metadata() {
        return metadata;
    }

    /** What ended it, if anything did. */
    synchronized Throwable ended() {
        return ended;
    }
}
