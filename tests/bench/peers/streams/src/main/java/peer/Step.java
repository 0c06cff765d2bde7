package peer;

/** One timestep of one stream. Not for use by several threads: each task has its own. */
interface Step {
    /** Floats of recurrent state. */
    int stateSize();

    /** Advance `state` in place from its first `stateSize()` floats on; returns the probability. */
    float step(float[] features, float[] state);
}
