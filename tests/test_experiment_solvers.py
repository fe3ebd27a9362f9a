"""The solvers of the experiments that are in files of their own, against analytic solutions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def module(name):
    """Imports a file of the experiments, whose folder is not a package."""
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


boussinesq, sphere = module("boussinesq"), module("sphere")


def zeros(solver):
    return np.zeros((2, *solver.squares.shape), complex)


@pytest.mark.parametrize(
    "rayleigh, prandtl", [(27 / 4 * np.pi**4, 1.0), (2000.0, 0.7), (300.0, 2.0)]
)
def test_rolls_grow_as_the_linear_theory_says(rayleigh, prandtl):
    # `psi = sin(pi z) exp(s t + i a x)` and `theta = i a psi / (s + q)`, with `q = a^2 + pi^2`,
    # solve the linear equations if `(s + Pr q) (s + q) q = Pr Ra a^2`. Of all channels, one of
    # length 2 sqrt(2) has the least Rayleigh number at which `s` is 0: 27/4 pi^4 (Rayleigh 1916).
    solver = boussinesq.Boussinesq(rayleigh, prandtl, 12, 12, 2 * np.sqrt(2))
    a, q = solver.along[1], solver.squares[0, 1]
    coupling = 4 * prandtl * rayleigh * a**2 / q
    growth = 0.5 * (np.sqrt(((1 - prandtl) * q) ** 2 + coupling) - (1 + prandtl) * q)
    # Products of these amplitudes are lost in the rounding of the amplitudes.
    state, psi = zeros(solver), 1e-9
    state[:, 0, 1] = -q * psi, 1j * a * psi / (growth + q)
    start, time = state, 0.05
    for _ in range(50):
        state = solver.step(state, time / 50)
    # A method of the fourth order has an error near time * rate * (rate * step)^4 / 120: with rates
    # of up to 22, from the square root of the coupling, 2e-9.
    assert np.allclose(state[:, 0, 1] / start[:, 0, 1], np.exp(growth * time), rtol=1e-7)


def test_a_roll_carries_heat_as_in_the_model_of_lorenz():
    # `psi = sin(pi z) sin(a x)` carries `theta = sin(pi z) cos(a x)`: `u theta_x + w theta_z` is
    # `a pi sin(pi z) cos(pi z) = a pi / 2 sin(2 pi z)` (Lorenz, J. Atmos. Sci. 20, 1963).
    solver = boussinesq.Boussinesq(0.0, 1.0, 12, 12, 2.0)
    a, state = solver.along[1], zeros(solver)
    state[:, 0, 1] = 0.5j * solver.squares[0, 1], 0.5
    change = solver.tendency(state)[1]
    expected = np.zeros_like(change)
    expected[1, 0] = -a * np.pi / 2
    # And `w` itself, `a sin(pi z) cos(a x)`, heats.
    expected[0, 1] = a / 2
    assert np.allclose(change, expected, atol=1e-13)


@pytest.mark.parametrize("psi, theta", [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_fields_of_a_roll(psi, theta):
    # The squares of the gradients of a roll are `p_xx + p_zz = -pi^2 a^2 (cos(2 pi z) +
    # cos(2 a x))`, and the heat of `theta` gives `Pr Ra pi cos(pi z) cos(a x)`.
    rayleigh, prandtl = 3.0, 2.0
    solver = boussinesq.Boussinesq(rayleigh, prandtl, 12, 16, 2.0)
    a, state = solver.along[1], zeros(solver)
    state[:, 0, 1] = 0.5j * psi * solver.squares[0, 1], 0.5 * theta
    x = 2 * np.arange(16) / 16
    z = (np.arange(12)[:, None] + 0.5) / 12
    pressure = psi**2 / 4 * (a**2 * np.cos(2 * np.pi * z) + np.pi**2 * np.cos(2 * a * x))
    buoyant = prandtl * rayleigh * np.pi / (a**2 + np.pi**2) * np.cos(np.pi * z) * np.cos(a * x)
    expected = [
        psi * a * np.sin(np.pi * z) * np.cos(a * x),
        -psi * np.pi * np.cos(np.pi * z) * np.sin(a * x),
        theta * np.sin(np.pi * z) * np.cos(a * x),
        pressure - theta * buoyant,
    ]
    assert np.allclose(solver.fields(state), expected, atol=1e-12)


def test_the_wind_is_that_of_the_test_case():
    # Williamson et al. 1992, equations 75 and 76, with a speed of 1.
    latitude, longitude = sphere.grid(6, 12)
    alpha = 1.1
    axis = np.array([-np.sin(alpha), 0.0, np.cos(alpha)])
    u = np.cos(latitude) * np.cos(alpha) + np.sin(latitude) * np.cos(longitude) * np.sin(alpha)
    v = -np.sin(longitude) * np.sin(alpha) + 0 * latitude
    assert np.allclose(sphere.wind(axis, latitude, longitude), [u, v], atol=1e-14)


def test_bells_move_as_the_wind_says():
    # `h_t + u / cos(latitude) h_longitude + v h_latitude = 0`, by central differences, whose error
    # is the square of the step times third derivatives, below 10^3 for this radius.
    generator = np.random.default_rng(0)
    latitude, longitude = sphere.grid(12, 24)
    axis, centre = generator.normal(size=(2, 3))
    axis, centre = axis / np.linalg.norm(axis), centre / np.linalg.norm(centre)

    def h(time, north, east):
        moved = sphere.rotate(centre, axis, time)
        points = sphere.place(latitude + north, longitude + east)
        return sphere.bell(points, moved, np.array(2.0))

    def slope(*direction):
        forward = h(*(1e-4 * d for d in direction))
        return (forward - h(*(-1e-4 * d for d in direction))) / 2e-4

    u, v = sphere.wind(axis, latitude, longitude)
    carried = u / np.cos(latitude) * slope(0, 0, 1) + v * slope(0, 1, 0)
    assert np.abs(carried).max() > 0.3
    assert np.abs(slope(1, 0, 0) + carried).max() < 1e-5
