package peer;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * LSTM layers, each behind it a LeakyReLU, and one sigmoid, in plain loops that the JIT turns into vector instructions.
 *
 * <p>The file of weights is little-endian: int features, int layers, float slope; of each layer int units and, as Keras
 * has them, kernel (inputs, 4 units), recurrent kernel (units, 4 units) and bias (4 units), gates in the order i, f, c, o;
 * then the kernel (units) and bias of the last layer.
 */
final class Lstm implements Step {
    private final float slope;
    private final int[] units;
    private final float[][] kernels;
    private final float[][] recurrents;
    private final float[][] biases;
    private final float[][] gates;
    private final float[][] outputs;
    private final float[] last;
    private final float lastBias;
    private final int stateSize;

    Lstm(Path weights) throws IOException {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(weights)).order(ByteOrder.LITTLE_ENDIAN);
        int inputs = file.getInt();
        int layers = file.getInt();
        slope = file.getFloat();
        units = new int[layers];
        kernels = new float[layers][];
        recurrents = new float[layers][];
        biases = new float[layers][];
        gates = new float[layers][];
        outputs = new float[layers][];
        int size = 0;
        for (int layer = 0; layer < layers; layer++) {
            int width = file.getInt();
            units[layer] = width;
            kernels[layer] = floats(file, inputs * 4 * width);
            recurrents[layer] = floats(file, width * 4 * width);
            biases[layer] = floats(file, 4 * width);
            gates[layer] = new float[4 * width];
            outputs[layer] = new float[width];
            size += 2 * width;
            inputs = width;
        }
        last = floats(file, inputs);
        lastBias = file.getFloat();
        stateSize = size;
    }

    @Override
    public int stateSize() {
        return stateSize;
    }

    @Override
    public float step(float[] features, float[] state) {
        float[] x = features;
        int at = 0;
        for (int layer = 0; layer < units.length; layer++) {
            advance(x, state, at, units[layer], kernels[layer], recurrents[layer], biases[layer], gates[layer]);
            float[] out = outputs[layer];
            for (int j = 0; j < out.length; j++) {
                float h = state[at + j];
                out[j] = h >= 0 ? h : slope * h;
            }
            x = out;
            at += 2 * units[layer];
        }
        float sum = lastBias;
        for (int j = 0; j < last.length; j++) {
            sum += last[j] * x[j];
        }
        return (float) (1 / (1 + Math.exp(-sum)));
    }

    /** One layer: its h is at `state[at]`, its c behind it. */
    private static void advance(
            float[] x, float[] state, int at, int width, float[] kernel, float[] recurrent, float[] bias, float[] z) {
        int all = 4 * width;
        System.arraycopy(bias, 0, z, 0, all);
        add(z, kernel, x, 0, x.length);
        add(z, recurrent, state, at, width);
        halve(z, 0, 2 * width);
        halve(z, 3 * width, all);
        tanh(z);
        int c = at + width;
        for (int j = 0; j < width; j++) {
            float input = 0.5f + 0.5f * z[j];
            float forget = 0.5f + 0.5f * z[width + j];
            state[c + j] = forget * state[c + j] + input * z[2 * width + j];
        }
        for (int j = 0; j < width; j++) {
            z[j] = state[c + j];
        }
        tanh(z, width);
        for (int j = 0; j < width; j++) {
            state[at + j] = (0.5f + 0.5f * z[3 * width + j]) * z[j];
        }
    }

    /** z += x times the matrix, four of its rows at once, so that z is read and written a quarter as often. */
    private static void add(float[] z, float[] weights, float[] x, int from, int count) {
        int all = z.length;
        int i = 0;
        for (; i + 4 <= count; i += 4) {
            float a = x[from + i];
            float b = x[from + i + 1];
            float c = x[from + i + 2];
            float d = x[from + i + 3];
            int row = i * all;
            for (int j = 0; j < all; j++) {
                z[j] += a * weights[row + j]
                        + b * weights[row + all + j]
                        + c * weights[row + 2 * all + j]
                        + d * weights[row + 3 * all + j];
            }
        }
        for (; i < count; i++) {
            float a = x[from + i];
            int row = i * all;
            for (int j = 0; j < all; j++) {
                z[j] += a * weights[row + j];
            }
        }
    }

    /** sigmoid(x) = (1 + tanh(x / 2)) / 2. */
    private static void halve(float[] z, int from, int to) {
        for (int j = from; j < to; j++) {
            z[j] *= 0.5f;
        }
    }

    private static void tanh(float[] z) {
        tanh(z, z.length);
    }

    /** The rational function that Eigen and XLA use, without branches. */
    private static void tanh(float[] z, int length) {
        for (int j = 0; j < length; j++) {
            float x = Math.max(-7.90531110763549805f, Math.min(7.90531110763549805f, z[j]));
            float s = x * x;
            float p = -2.76076847742355e-16f * s + 2.00018790482477e-13f;
            p = p * s - 8.60467152213735e-11f;
            p = p * s + 5.12229709037114e-08f;
            p = p * s + 1.48572235717979e-05f;
            p = p * s + 6.37261928875436e-04f;
            p = p * s + 4.89352455891786e-03f;
            float q = 1.19825839466702e-06f * s + 1.18534705686654e-04f;
            q = q * s + 2.26843463243900e-03f;
            q = q * s + 4.89352518554385e-03f;
            z[j] = x * p / q;
        }
    }

    private static float[] floats(ByteBuffer file, int count) {
        float[] found = new float[count];
        for (int i = 0; i < count; i++) {
            found[i] = file.getFloat();
        }
        return found;
    }
}
