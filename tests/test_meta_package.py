"""The meta-package re-exports the public names of the four packages, and nothing else."""

import types

import pdequinox
import pdequinox_padding
import pdequinox_physconv
import pdequinox_pointwise
import pdequinox_spectralconv


PACKAGES = (pdequinox_padding, pdequinox_physconv, pdequinox_pointwise, pdequinox_spectralconv)


def public_names(module: types.ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def test_conv_holds_the_public_names_of_the_packages():
    expected = {}
    for package in PACKAGES:
        expected |= public_names(package)
    assert public_names(pdequinox.conv) == expected


def test_layers_are_reached_through_the_attribute():
    assert pdequinox.conv.PhysicsConv is pdequinox_physconv.PhysicsConv
