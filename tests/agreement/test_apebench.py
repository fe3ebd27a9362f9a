"""APEBench 0.1.1 as a client: its scenarios and networks on the layers of this project."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import readmes


TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark" / "scenarios.py"


@pytest.fixture
def scenarios(monkeypatch):
    """The program, which finds its neighbours in its folder."""
    monkeypatch.syspath_prepend(TOOL.parent)
    return importlib.import_module(TOOL.stem)


@pytest.mark.converts("network", "APEBench", "adopt")
@pytest.mark.converts("network", "APEBench", "provide_pdequinox_conv")
@pytest.mark.parametrize("network", ["UNet;4;1;relu", "FNO;6;4;2;gelu"])
def test_losses_are_the_same_step_for_step(network, scenarios):
    """In float64, where a step sums fewer than 2000 numbers in a row, and carries the roundings of
    those before it on.
    """
    steps = 20
    arguments = dict(network=network, dims=1, points=32, steps=steps, batch=4)
    runs = {
        layers: scenarios.process(True, layers=layers, **arguments)
        for layers in ("pdequinox", "adopted", "provided")
    }
    expected = runs["pdequinox"]
    assert len(expected["losses"]) == steps and expected["losses"][-1] < expected["losses"][0]
    assert expected["own"] == 0
    for layers in ("adopted", "provided"):
        assert runs[layers]["own"] == expected["layers"] > 0
        np.testing.assert_allclose(
            runs[layers]["losses"], expected["losses"], rtol=steps * 2000 * np.finfo(float).eps
        )


def test_providing_after_the_import_of_pdequinox_is_an_error():
    program = """
import pdequinox
from pdequinox_convert import provide_pdequinox_conv
provide_pdequinox_conv()
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True)
    assert done.returncode and "must be called before the first import" in done.stderr


def test_providing_twice_is_once():
    program = """
from pdequinox_convert import provide_pdequinox_conv
provide_pdequinox_conv()
provide_pdequinox_conv()
import pdequinox
provide_pdequinox_conv()
import jax, pdequinox_physconv
assert pdequinox.conv.PhysicsConv is pdequinox_physconv.PhysicsConv
from pdequinox.conv import SpectralConv
net = pdequinox.arch.ClassicUNet(1, 2, 3, num_levels=1, hidden_channels=2, key=jax.random.key(0))
assert isinstance(net.projection, pdequinox.conv.PointwiseLinearConv)
"""
    subprocess.run((sys.executable, "-W", "error", "-c", program), check=True)


@pytest.mark.parametrize("example", readmes.examples("pdequinox"))
def test_examples_of_the_pages(example):
    readmes.run(example)
