"""What a student knows of a class it never saw, before and after its bias for that class is corrected.

    python3 omitted_class.py DLOPT STUDENT DATA CLASS WORK

Hinton, Vinyals and Dean (2015, arXiv:1503.02531, section 3) leave all samples of one class out of the transfer set; the
student's bias for it then is too low, and they raise it. Here it is raised to what is best on the validation split, and
measured on the test split.
"""

import json
import struct
import subprocess
import sys


def read(path):
    """Outputs and labels of a file of predictions."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, code in [("outputs", "f"), ("labels", "I")]:
        begin, end = header[name]["data_offsets"]
        tensors[name] = struct.unpack(f"<{(end - begin) // 4}{code}", data[begin:end])
    rows, width = header["outputs"]["shape"]
    outputs = [tensors["outputs"][row * width : (row + 1) * width] for row in range(rows)]
    return outputs, tensors["labels"]


def mistakes(outputs, labels, omitted, bias):
    """Mistakes in all, and on the omitted class."""
    every = own = 0
    for row, label in zip(outputs, labels):
        scores = [score + (bias if place == omitted else 0.0) for place, score in enumerate(row)]
        wrong = scores.index(max(scores)) != label
        every += wrong
        own += wrong and label == omitted
    return every, own


def main():
    dlopt, student, data, name, work = sys.argv[1:6]
    splits = {}
    for split in ["validation", "test"]:
        path = f"{work}/omitted-{split}.safetensors"
        command = [dlopt, "eval", student, "--data", data, "--split", split, "--predictions", path, "--force", "--quiet", "--json"]
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        names = [entry["name"] for entry in report["model"]["metrics"]["classification"]["classes"]]
        splits[split] = read(path)
    omitted = names.index(name)
    biases = [step / 4 for step in range(-8, 81)]
    best = min(biases, key=lambda bias: mistakes(*splits["validation"], omitted, bias)[0])
    outputs, labels = splits["test"]
    own = sum(label == omitted for label in labels)
    for bias in [0.0, best]:
        every, wrong = mistakes(outputs, labels, omitted, bias)
        print(f"bias {bias:+.2f}: {every} mistakes on {len(labels)} test samples, {wrong} of them on the {own} of class {name}")


if __name__ == "__main__":
    main()
