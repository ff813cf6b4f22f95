"""Times one step of a policy in onnxruntime: step.py POLICY.onnx CELLS prints seconds a step, by batch, as JSON.

`bound` is the least that its Python interface allows: inputs and outputs are bound to buffers once, and a step is one call
into the library. `fed` passes arrays in and takes arrays out at each step, as a program does that carries the state.
"""

import json
import sys
import time

import numpy
import onnxruntime

BATCHES, STEPS = 100, 1000

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
features = session.get_inputs()[0].shape[1]
actions = session.get_outputs()[0].shape[1]
cells = int(sys.argv[2])
feeds = {
    "observation": (numpy.arange(features, dtype=numpy.float32) / features).reshape(1, -1),
    "h": numpy.zeros([1, cells], numpy.float32),
    "c": numpy.zeros([1, cells], numpy.float32),
    "mask": numpy.ones([1, actions], numpy.float32),
}
names = ["probabilities", "value", "h_out", "c_out"]


def measured(step):
    for _ in range(STEPS):
        step()
    seconds = []
    for _ in range(BATCHES):
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        seconds.append((time.perf_counter() - begin) / STEPS)
    return seconds


binding = session.io_binding()
values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
for name, value in values.items():
    binding.bind_ortvalue_input(name, value)
shapes = {"probabilities": [1, actions], "value": [1, 1], "h_out": [1, cells], "c_out": [1, cells]}
results = {name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(shapes[name], numpy.float32) for name in names}
for name, value in results.items():
    binding.bind_ortvalue_output(name, value)
bound = measured(lambda: session.run_with_iobinding(binding))


def fed():
    _, _, feeds["h"], feeds["c"] = session.run(names, feeds)


print(json.dumps({"version": onnxruntime.__version__, "bound": bound, "fed": measured(fed)}))
