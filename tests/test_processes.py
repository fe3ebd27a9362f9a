"""Tests that training in two processes with two devices each equals training on one device."""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
import training


# The settings of pytest's configuration and of `conftest.py`, with less compiling.
SETTINGS = dict(
    JAX_DEFAULT_PRNG_IMPL="rbg",
    JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    JAX_ENABLE_X64="1",
    JAX_NUMPY_DTYPE_PROMOTION="strict",
    JAX_NUMPY_RANK_PROMOTION="raise",
    PYTHONWARNINGS="error",
)


@functools.cache
def on_one_device(name):
    """Trains, and measures how sensitive the training is: the largest change of a loss and of a
    final weight, divided by the relative change of the first weights in a random direction.
    """
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    network = training.make_network(name)
    expected = training.train(network, device, device)
    generator, delta = np.random.default_rng(3), 1e-6
    nudge = lambda leaf: leaf * (1 + delta * generator.choice([-1.0, 1.0], leaf.shape))
    nudged = training.train(jax.tree.map(nudge, network), device, device)
    change = lambda a, b: np.abs(a - b).max() / delta
    by_weights = max(map(change, nudged.weights, expected.weights))
    return expected, change(nudged.losses, expected.losses), by_weights


def num_roundings(expected):
    """Counts the roundings on the longest way through the training, if sums are taken term by term.

    A layer sums as many products as it has weights per output channel, and a spectral layer also as
    many as an axis has points, four times. A step takes all layers forward and back. The derivative
    with respect to a weight sums over the batch and the field, as the loss does.
    """
    layers = sum(weight[0].size // weight.shape[1] for weight in expected.weights)
    layers += 4 * len(expected.weights) * max(training.SPATIAL)
    fields = training.BATCH * np.prod(training.SPATIAL)
    return training.NUM_STEPS * (2 * layers + 2 * fields)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
@pytest.mark.parametrize("name", ["fno", "unet"])
def test_training_in_two_processes(name, axis_type, tmp_path):
    """The losses and the final weights on every device are those of one device, up to rounding.

    A sum of n products, rounded after every operation, is the exact sum of products whose factors
    are off by at most n eps (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    3.1). So each of the two trainings is off by as much as it changes when the weights change by
    `num_roundings * eps`: in float64, by at most 1e-10.
    """
    if axis_type == "Explicit" and not hasattr(jax.sharding, "AxisType"):
        pytest.skip(f"JAX {jax.__version__} has no explicit axes")
    processes.run(
        Path(training.__file__),
        [name, axis_type, str(tmp_path)],
        num_processes=2,
        devices_each=2,
        timeout=240,
        **SETTINGS,
    )
    expected, by_losses, by_weights = on_one_device(name)
    size = 2 * num_roundings(expected) * float(jnp.finfo(jnp.float64).eps)
    assert size * max(by_losses, by_weights) < 1e-10
    for layout, process in itertools.product(training.LAYOUTS, range(2)):
        found, where = np.load(tmp_path / f"{layout}_{process}.npz"), f"{layout}, {process=}"
        np.testing.assert_allclose(
            found["losses"], expected.losses, rtol=0, atol=size * by_losses, err_msg=where
        )
        names = sorted(key for key in found if key.startswith("weight_"))
        for actual, weight in zip((found[key] for key in names), expected.weights, strict=True):
            assert actual.shape == (2, *weight.shape[1:])  # of both devices
            expanded = np.broadcast_to(weight, actual.shape)
            np.testing.assert_allclose(
                actual, expanded, rtol=0, atol=size * by_weights, err_msg=where
            )


def test_a_failure_is_shown(tmp_path):
    """One process fails, and the process that would wait for it is ended too."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "if sys.argv[3] == '1': raise SystemExit('what went wrong')\n"
        "time.sleep(1000)\n"
    )
    with pytest.raises(RuntimeError, match=r"process 1 ended with code 1(.|\n)*what went wrong"):
        processes.run(program, [], num_processes=2, devices_each=1, timeout=60)
    with pytest.raises(RuntimeError, match=r"processes \[0\] ran too long"):
        processes.run(program, [], num_processes=1, devices_each=1, timeout=0.2)
