package peer;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.Stores;

/** A Kafka Streams application that answers as cellstream does; told of brokers and topics by CELLSTREAM_* variables. */
public final class Main {
    private static final Map<String, String> TOLD = System.getenv();

    /** `lstm` or `onnx`, the model's file, the number of features, what events name the model. */
    public static void main(String[] arguments) throws Exception {
        boolean onnx = arguments[0].equals("onnx");
        Path model = Path.of(arguments[1]);
        Serde<float[]> floats = Serdes.serdeFrom(writer(), reader());
        Topology topology = new Topology();
        topology.addSource("samples", bytes().deserializer(), bytes().deserializer(), TOLD.get("CELLSTREAM_INPUT_TOPIC"));
        topology.addProcessor(
                "answer",
                () -> {
                    try {
                        Step step = onnx ? new Onnx(model) : new Lstm(model);
                        return new Answer(step, Integer.parseInt(arguments[2]), arguments[3]);
                    } catch (Exception fault) {
                        throw new IllegalStateException(fault);
                    }
                },
                "samples");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(Answer.STORE), Serdes.Bytes(), floats)
                        .withCachingEnabled(),
                "answer");
        topology.addSink(
                "probabilities", TOLD.get("CELLSTREAM_OUTPUT_TOPIC"), bytes().serializer(), bytes().serializer(), "answer");
        KafkaStreams streams = new KafkaStreams(topology, properties());
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static Properties properties() {
        Properties found = new Properties();
        found.put(StreamsConfig.APPLICATION_ID_CONFIG, TOLD.get("CELLSTREAM_GROUP_ID"));
        found.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, TOLD.get("CELLSTREAM_BOOTSTRAP_SERVERS"));
        found.put(StreamsConfig.STATE_DIR_CONFIG, TOLD.get("CELLSTREAM_CHECKPOINTS"));
        found.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        found.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, TOLD.get("CELLSTREAM_COMMIT_INTERVAL_MS"));
        found.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        found.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        found.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        found.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        found.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
        found.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 4 << 20);
        found.put(StreamsConfig.producerPrefix("batch.size"), 256 << 10);
        found.put(StreamsConfig.producerPrefix("linger.ms"), 20);
        found.put(StreamsConfig.producerPrefix("buffer.memory"), 128L << 20);
        return found;
    }

    private static Serde<byte[]> bytes() {
        return Serdes.ByteArray();
    }

    private static Serializer<float[]> writer() {
        return (topic, values) -> {
            if (values == null) {
                return null;
            }
            ByteBuffer buffer = ByteBuffer.allocate(4 * values.length);
            buffer.asFloatBuffer().put(values);
            return buffer.array();
        };
    }

    private static Deserializer<float[]> reader() {
        return (topic, value) -> {
            if (value == null) {
                return null;
            }
            float[] values = new float[value.length / 4];
            ByteBuffer.wrap(value).asFloatBuffer().get(values);
            return values;
        };
    }
}
