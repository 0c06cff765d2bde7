package peer;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Map;

/** The same by ONNX Runtime: a graph with inputs `x` and `state`, outputs `probability` and `after`; buffers made once. */
final class Onnx implements Step {
    private final OrtSession session;
    private final FloatBuffer x;
    private final FloatBuffer state;
    private final Map<String, OnnxTensor> inputs;
    private final int stateSize;

    Onnx(Path model) throws OrtException {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1);
        options.setInterOpNumThreads(1);
        session = environment.createSession(model.toString(), options);
        int features = width("x");
        stateSize = width("state");
        x = buffer(features);
        state = buffer(stateSize);
        inputs = Map.of(
                "x", OnnxTensor.createTensor(environment, x, new long[] {1, features}),
                "state", OnnxTensor.createTensor(environment, state, new long[] {1, stateSize}));
    }

    @Override
    public int stateSize() {
        return stateSize;
    }

    @Override
    public float step(float[] features, float[] values) {
        x.put(0, features);
        state.put(0, values, 0, stateSize);
        try (OrtSession.Result result = session.run(inputs)) {
            ((OnnxTensor) result.get(1)).getFloatBuffer().get(0, values, 0, stateSize);
            return ((OnnxTensor) result.get(0)).getFloatBuffer().get(0);
        } catch (OrtException fault) {
            throw new IllegalStateException(fault);
        }
    }

    private int width(String input) throws OrtException {
        ai.onnxruntime.TensorInfo info = (ai.onnxruntime.TensorInfo) session.getInputInfo().get(input).getInfo();
        return (int) info.getShape()[1];
    }

    private static FloatBuffer buffer(int floats) {
        return ByteBuffer.allocateDirect(4 * floats).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }
}
