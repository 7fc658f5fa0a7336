import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own client: {@code Scenarios BOOTSTRAP SCENARIO...} runs scenarios, all at once.
 *
 * <p>A scenario is a public static method of {@link Data} or {@link Groups}; it uses topics of its own, and fails by what it
 * throws. The name of the method in snake case is its name.
 */
public final class Scenarios {
    /** Every wait in a scenario ends within this. */
    static final long PATIENCE_MS = 120_000;

    /** How many replicas the topics of a scenario have. */
    static final short REPLICATION = Short.parseShort(System.getenv().getOrDefault("REPLICATION", "1"));

    static String bootstrap;

    private static final Class<?>[] SCENARIOS = {Data.class, Groups.class};

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        switch (arguments[1]) {
            case "--list" -> System.out.print(String.join("\n", names()));
            case "write" -> Interop.write(arguments[2]);
            case "read" -> Interop.read(List.of(arguments).subList(2, arguments.length));
            case "member" -> Groups.beAMember(arguments[2], arguments[3]);
            default -> runAll(List.of(arguments).subList(1, arguments.length));
        }
    }

    private static List<Method> methods() {
        List<Method> found = new ArrayList<>();
        for (Class<?> scenarios : SCENARIOS) {
            for (Method method : scenarios.getDeclaredMethods()) {
                if (Modifier.isPublic(method.getModifiers())) {
                    found.add(method);
                }
            }
        }
        return found;
    }

    private static String name(Method method) {
        return method.getName().replaceAll("([A-Z])", "_$1").toLowerCase();
    }

    private static List<String> names() {
        return methods().stream().map(Scenarios::name).toList();
    }

    private static void runAll(List<String> names) throws InterruptedException {
        check(names().containsAll(names), "one of them is no scenario: " + names);
        List<Thread> running = new ArrayList<>();
        for (Method method : methods()) {
            if (names.contains(name(method))) {
                running.add(new Thread(() -> run(method)));
            }
        }
        running.forEach(Thread::start);
        for (Thread thread : running) {
            thread.join();
        }
        // Without waiting for anything that a scenario may have left open.
        System.exit(0);
    }

    /** The first scenario that fails ends the program. */
    private static void run(Method method) {
        try {
            method.invoke(null);
        } catch (InvocationTargetException | IllegalAccessException failure) {
            fail(name(method), failure.getCause());
        }
    }

    static synchronized void fail(String what, Throwable failure) {
        PrintStream errors = System.err;
        errors.println(what + " failed:");
        failure.printStackTrace(errors);
        System.exit(1);
    }

    static void check(boolean isRight, String otherwise) {
        if (!isRight) {
            throw new AssertionError(otherwise);
        }
    }

    static void equal(Object found, Object expected, String what) {
        check(expected.equals(found), what + ": " + found + " instead of " + expected);
    }

    /** An action that may throw whatever it likes. */
    interface Call {
        void run() throws Exception;
    }

    static void refused(Class<? extends Exception> expected, Call call) throws Exception {
        try {
            call.run();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (expected.isInstance(cause)) {
                return;
            }
            throw error;
        }
        throw new AssertionError("no " + expected.getSimpleName());
    }

    static void eventually(BooleanSupplier condition, String otherwise) throws InterruptedException {
        long started = System.nanoTime();
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() - started < PATIENCE_MS * 1_000_000, otherwise);
            Thread.sleep(20);
        }
    }

    /** Tells the test that a point is reached; done when the test has answered. */
    static Future<String> say(String line) {
        System.out.println(line);
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        return CompletableFuture.supplyAsync(() -> {
            try {
                return input.readLine();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        });
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(PATIENCE_MS, TimeUnit.MILLISECONDS);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static Properties settings(Map<String, Object> settings) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("retry.backoff.ms", 20);
        all.putAll(settings);
        return all;
    }

    static Admin admin() {
        return Admin.create(settings(Map.of()));
    }

    /** Makes a new topic and returns its name. */
    static String create(int partitions) throws Exception {
        String name = "java-" + UUID.randomUUID();
        try (Admin admin = admin()) {
            get(admin.createTopics(List.of(new NewTopic(name, partitions, REPLICATION))).all());
        }
        return name;
    }

    static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        Properties all = settings(Map.of(
                "group.protocol", "classic", "auto.offset.reset", "earliest", "enable.auto.commit", false,
                "heartbeat.interval.ms", 300, "fetch.max.wait.ms", 200));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        var serializer = new ByteArraySerializer();
        return new KafkaProducer<>(settings(settings), serializer, serializer);
    }

    /** Writes, and returns what was acknowledged, in the order of the records. */
    static List<RecordMetadata> write(Map<String, Object> settings, List<ProducerRecord<byte[], byte[]>> records)
            throws Exception {
        try (var producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = records.stream().map(producer::send).toList();
            List<RecordMetadata> acknowledged = new ArrayList<>();
            for (Future<RecordMetadata> one : sent) {
                acknowledged.add(get(one));
            }
            return acknowledged;
        }
    }

    /** Writes count records to each partition. */
    static void spread(String topic, int partitions, int count) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            for (int index = 0; index < count; index++) {
                records.add(new ProducerRecord<>(topic, partition, null, bytes("" + index)));
            }
        }
        write(Map.of(), records);
    }

    /** Polls until it has count records. */
    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long started = System.nanoTime();
        while (records.size() < count) {
            check(System.nanoTime() - started < PATIENCE_MS * 1_000_000, records.size() + " of " + count + " records");
            consumer.poll(java.time.Duration.ofMillis(100)).forEach(records::add);
        }
        equal(records.size(), count, "records");
        return records;
    }

    static void dense(List<ConsumerRecord<byte[], byte[]>> records, long first) {
        for (int index = 0; index < records.size(); index++) {
            equal(records.get(index).offset(), first + index, "offset");
        }
    }
}
