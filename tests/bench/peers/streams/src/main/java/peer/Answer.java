package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One event for each sample, as cellstream writes it.
 *
 * <p>The state of a stream is one float array: what is recurrent, then the bits of its timestep, of the partition and of
 * both halves of the offset of its first sample.
 */
final class Answer implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "states";
    private static final JsonFactory JSON =
            JsonFactory.builder().enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER).build();

    private final Step model;
    private final float[] features;
    private final String digest;
    private final StringBuilder text = new StringBuilder(256);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, float[]> store;

    Answer(Step model, int features, String digest) {
        this.model = model;
        this.features = new float[features];
        this.digest = digest;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
        context = given;
        store = given.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> sample) {
        read(sample.value());
        RecordMetadata place = context.recordMetadata().orElseThrow();
        Bytes key = Bytes.wrap(sample.key());
        float[] former = store.get(key);
        int size = model.stateSize();
        float[] state = former == null ? begin(place, size) : former; // fresh from its bytes
        int timestep = Float.floatToRawIntBits(state[size]);
        float probability = model.step(features, state);
        state[size] = Float.intBitsToFloat(timestep + 1);
        store.put(key, state);
        context.forward(sample.withValue(event(sample, place, state, size, timestep, probability)));
    }

    private static float[] begin(RecordMetadata place, int size) {
        float[] state = new float[size + 4];
        state[size + 1] = Float.intBitsToFloat(place.partition());
        state[size + 2] = Float.intBitsToFloat((int) (place.offset() >>> 32));
        state[size + 3] = Float.intBitsToFloat((int) place.offset());
        return state;
    }

    private void read(byte[] value) {
        try (JsonParser parser = JSON.createParser(value)) {
            int found = 0;
            while (parser.nextToken() != null) {
                if (parser.currentToken() == JsonToken.FIELD_NAME && parser.currentName().equals("features")) {
                    parser.nextToken();
                    while (parser.nextToken() != JsonToken.END_ARRAY) {
                        features[found++] = parser.getFloatValue();
                    }
                }
            }
            if (found != features.length) {
                throw new IllegalStateException(found + " features");
            }
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
    }

    private byte[] event(
            Record<byte[], byte[]> sample, RecordMetadata place, float[] state, int size, int timestep, float answer) {
        long first = ((long) Float.floatToRawIntBits(state[size + 2]) << 32)
                | (Float.floatToRawIntBits(state[size + 3]) & 0xffffffffL);
        text.setLength(0);
        text.append("{\"stream_id\":\"").append(new String(sample.key(), StandardCharsets.UTF_8));
        text.append("\",\"sequence\":\"").append(Float.floatToRawIntBits(state[size + 1])).append('-').append(first);
        text.append("\",\"timestep\":").append(timestep).append(",\"probability\":").append(answer);
        text.append(",\"timestamp\":").append(sample.timestamp()).append(",\"source\":[").append(place.partition());
        text.append(',').append(place.offset()).append("],\"model\":\"").append(digest).append("\"}");
        return text.toString().getBytes(StandardCharsets.UTF_8);
    }
}
