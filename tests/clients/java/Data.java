import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** What is written is read. Kafka's tools, which are this client too, do the rest of it in `kafka_tools.rs`. */
final class Data {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    public static void everyCodecComesBack() throws Exception {
        String topic = Scenarios.create(1);
        List<ProducerRecord<byte[], byte[]>> expected = new ArrayList<>();
        for (String codec : CODECS) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int index = 0; index < 200; index++) {
                Header header = new RecordHeader("codec", Scenarios.bytes(codec));
                byte[] key = index % 10 == 0 ? null : Scenarios.bytes(codec + "-" + index);
                byte[] value = index % 10 == 1 ? null : Scenarios.bytes((codec + " " + index + " ").repeat(50));
                records.add(new ProducerRecord<>(topic, 0, key, value, List.of(header)));
            }
            var acknowledged = Scenarios.write(Map.of("compression.type", codec, "linger.ms", 50), records);
            for (int index = 0; index < records.size(); index++) {
                Scenarios.equal(acknowledged.get(index).offset(), (long) expected.size() + index, "acknowledged offset");
            }
            expected.addAll(records);
        }
        try (var consumer = Scenarios.consumer(Map.of("check.crcs", true))) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            var records = Scenarios.take(consumer, expected.size());
            Scenarios.dense(records, 0);
            for (int index = 0; index < records.size(); index++) {
                var record = records.get(index);
                var sent = expected.get(index);
                Scenarios.check(Arrays.equals(record.key(), sent.key()), "key of " + index);
                Scenarios.check(Arrays.equals(record.value(), sent.value()), "value of " + index);
                Scenarios.equal(record.headers(), sent.headers(), "headers of " + index);
            }
        }
    }
}
