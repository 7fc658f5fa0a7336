import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's tools one after the other in one process: a tool does its work in a tenth of the time that a JVM needs to
 * start and to warm up.
 *
 * <p>Input, from standard input: a count, then so many texts: the tool's class, its arguments, and last what it finds on its
 * own standard input. Output: its exit code, what it printed, and its errors. A text is the count of its bytes, and these.
 */
public final class Tools {
    /** Where a tool would end the process. */
    private static final class Ended extends Error {
        private static final long serialVersionUID = 1;
        private final int status;

        private Ended(int status) {
            super("exit code " + status, null, false, false);
            this.status = status;
        }
    }

    /** The same streams for all, because a logger may keep them. */
    private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream ERRORS = new ByteArrayOutputStream();

    /** The first exit code that the tool ended with. What it does afterwards, no process would have done. */
    private static Integer exited;
    /** What it had printed by then, and its errors. */
    private static List<byte[]> printed = List.of();

    /** What the tool does when its process ends. */
    private static final List<Runnable> hooks = new ArrayList<>();

    public static void main(String[] arguments) throws IOException {
        InputStream in = System.in;
        DataInputStream requests = new DataInputStream(in);
        DataOutputStream answers = new DataOutputStream(System.out);
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERRORS, true, StandardCharsets.UTF_8));
        Exit.Procedure end = (status, message) -> {
            exit(status);
            throw new Ended(status);
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        while (true) {
            int count;
            try {
                count = requests.readInt();
            } catch (EOFException ended) {
                return;
            }
            String[] words = new String[count];
            for (int index = 0; index < count; index++) {
                words[index] = new String(text(requests), StandardCharsets.UTF_8);
            }
            serve(words, answers);
        }
    }

    private static byte[] text(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        return bytes;
    }

    private static void serve(String[] words, DataOutputStream answers) throws IOException {
        String input = words[words.length - 1];
        String[] arguments = Arrays.copyOfRange(words, 1, words.length - 1);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        exited = null;
        int status = run(words[0], arguments);
        hooks.forEach(Runnable::run);
        hooks.clear();
        exit(status);
        answers.writeInt(exited);
        for (byte[] bytes : printed) {
            answers.writeInt(bytes.length);
            answers.write(bytes);
        }
        answers.flush();
        OUT.reset();
        ERRORS.reset();
    }

    private static synchronized void exit(int status) {
        if (exited == null) {
            exited = status;
            System.out.flush();
            System.err.flush();
            printed = List.of(OUT.toByteArray(), ERRORS.toByteArray());
        }
    }

    private static int run(String tool, String[] arguments) {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException failure) {
            if (failure.getCause() instanceof Ended ended) {
                return ended.status;
            }
            failure.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException wrong) {
            wrong.printStackTrace();
            return 1;
        }
    }
}
