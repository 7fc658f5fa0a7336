import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The records that every client writes and every client must read: see ../python/interop.py. */
final class Interop {
    private static final int PER_CODEC = 40;
    private static final long FIRST_TIMESTAMP_MS = 1_700_000_000_000L;

    static void write(String topic) throws Exception {
        for (String codec : Data.CODECS) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int index = 0; index < PER_CODEC; index++) {
                byte[] key = index % 4 == 0 ? null : Scenarios.bytes(codec + "-" + index);
                byte[] value = index % 10 == 9 ? null : Scenarios.bytes((codec + "." + index + ".").repeat(index % 7));
                List<Header> headers = index % 3 != 0 ? List.of() : List.of(
                        new RecordHeader("codec", Scenarios.bytes(codec)),
                        new RecordHeader("index", Scenarios.bytes("" + index)));
                records.add(new ProducerRecord<>(topic, 0, FIRST_TIMESTAMP_MS + index, key, value, headers));
            }
            Scenarios.write(Map.of("compression.type", codec, "linger.ms", 50), records);
        }
    }

    static void read(List<String> topics) {
        StringBuilder lines = new StringBuilder();
        try (var consumer = Scenarios.consumer(Map.of())) {
            for (String topic : topics) {
                TopicPartition partition = new TopicPartition(topic, 0);
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                for (var record : Scenarios.take(consumer, Data.CODECS.size() * PER_CODEC)) {
                    String headers = StreamSupport.stream(record.headers().spliterator(), false)
                            .map(header -> header.key() + ":" + text(header.value()))
                            .collect(Collectors.joining(","));
                    lines.append(String.join("\t", topic, "" + record.offset(), "" + record.timestamp(),
                            text(record.key()), text(record.value()), headers)).append('\n');
                }
            }
        }
        System.out.print(lines);
    }

    private static String text(byte[] content) {
        return content == null ? "null" : Scenarios.text(content);
    }
}
