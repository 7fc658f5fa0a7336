import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** Writes numbers to the partitions of a topic, one to each in a turn. */
final class Writer implements AutoCloseable {
    private final KafkaProducer<byte[], byte[]> producer = Scenarios.producer(Map.of());
    private final String topic;
    private int written;

    Writer(String topic) {
        this.topic = topic;
    }

    /** Writes to the first partitions until the condition holds. */
    void until(int partitions, BooleanSupplier condition, String otherwise) throws Exception {
        long started = System.nanoTime();
        while (!condition.getAsBoolean()) {
            Scenarios.check(System.nanoTime() - started < Scenarios.PATIENCE_MS * 1_000_000, otherwise);
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int partition = 0; partition < partitions; partition++) {
                sent.add(producer.send(
                        new ProducerRecord<>(topic, partition, null, Scenarios.bytes("" + (written + partition)))));
            }
            for (Future<RecordMetadata> one : sent) {
                Scenarios.get(one);
            }
            written += partitions;
            Thread.sleep(50);
        }
    }

    int written() {
        return written;
    }

    @Override
    public void close() {
        producer.close();
    }
}
