import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** What the members of a group have read and committed, together. What is known to be committed is not read again. */
final class Ledger {
    private final Set<String> values = new HashSet<>();
    private final Map<Integer, Long> next = new HashMap<>();
    private final Map<Integer, Long> committed = new HashMap<>();

    synchronized void read(ConsumerRecord<byte[], byte[]> record) {
        long end = committed.getOrDefault(record.partition(), 0L);
        Scenarios.check(record.offset() >= end, record + " is read again: " + end + " is committed");
        values.add(Scenarios.text(record.value()));
        next.merge(record.partition(), record.offset() + 1, Math::max);
    }

    /** Its commit was acknowledged. */
    synchronized void committed(ConsumerRecord<byte[], byte[]> record) {
        committed.merge(record.partition(), record.offset() + 1, Math::max);
    }

    /** Whether each of the numbers below count was read. */
    synchronized boolean hasRead(int count) {
        for (int number = 0; number < count; number++) {
            if (!values.contains("" + number)) {
                return false;
            }
        }
        return true;
    }

    synchronized boolean isAllCommitted(int count) {
        return hasRead(count) && committed.equals(next);
    }

    /** Behind what was read of each partition. */
    synchronized Map<Integer, Long> next() {
        return new HashMap<>(next);
    }
}
