"""A Keras model as a function over blocks, in reading order.

`tensorflow_setup` imports TensorFlow the way everything here expects; `keras_file` opens `.keras` files; `graph`
walks a model with one rule for each layer class (`layers`); `step_model` compiles the walk into blocks; `proof` holds
the blocks against each other bit for bit, `parity` holds them against Keras; `export` writes the artifact.

Nothing is imported here: TensorFlow takes seconds, and `tensorflow_setup` has to come first.
"""
