import java.io.BufferedReader;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** This program once more, as a process of its own that a scenario can stop and kill. It is gone when this one is. */
final class OtherProcess {
    private final Process process;
    private String said = "";

    OtherProcess(String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                ProcessHandle.current().info().command().orElseThrow(), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Xlog:disable", "-XX:SharedArchiveFile=" + System.getProperty("skein.class.archive"),
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", System.getProperty("java.class.path"),
                "Scenarios", Scenarios.bootstrap));
        command.addAll(List.of(arguments));
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        Thread listener = new Thread(this::listen);
        listener.setDaemon(true);
        listener.start();
    }

    private void listen() {
        try (BufferedReader lines = process.inputReader()) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                say(line);
            }
        } catch (IOException error) {
            Scenarios.fail("a process of its own", error);
        }
    }

    private synchronized void say(String line) {
        said = line;
    }

    /** The last line that it said. */
    synchronized String last() {
        return said;
    }

    void signal(String name) throws Exception {
        Process kill = new ProcessBuilder("kill", "-" + name, "" + process.pid()).inheritIO().start();
        Scenarios.equal(kill.waitFor(), 0, "exit code of kill");
    }
}
