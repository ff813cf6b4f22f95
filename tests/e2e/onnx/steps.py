"""Runs a policy step by step in onnxruntime: steps.py POLICY.onnx INPUTS.json prints the outputs as JSON."""

import json
import sys
import time

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with open(sys.argv[2], encoding="utf-8") as file:
    inputs = json.load(file)

h = numpy.zeros([1, inputs["cells"]], numpy.float32)
c = numpy.zeros([1, inputs["cells"]], numpy.float32)
steps = []
begin = time.perf_counter()
for step in inputs["steps"]:
    feeds = {
        "observation": numpy.array([step["features"]], numpy.float32),
        "mask": numpy.array([step["mask"]], numpy.float32),
        "h": h,
        "c": c,
    }
    names = ["probabilities", "value", "h_out", "c_out"]
    probabilities, value, h, c = session.run(names, feeds)
    steps.append({"probabilities": probabilities[0].tolist(), "value": float(value[0, 0])})
seconds = time.perf_counter() - begin
print(json.dumps({"version": onnxruntime.__version__, "us_per_step": 1e6 * seconds / len(steps), "steps": steps}))
