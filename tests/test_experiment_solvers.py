"""Tests the solvers of the experiments that need only the layers, against analytic solutions."""

import importlib.util
from pathlib import Path

import jax
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
parameters = module("parameters")


def zeros(solver):
    return np.zeros((2, *solver.squares.shape), complex)


@pytest.mark.parametrize(
    "rayleigh, prandtl", [(27 / 4 * np.pi**4, 1.0), (2000.0, 0.7), (300.0, 2.0)]
)
def test_rolls_grow_as_the_linear_theory_says(rayleigh, prandtl):
    # `psi = sin(pi z) exp(s t + i a x)` and `theta = i a psi / (s + q)`, with `q = a^2 + pi^2`,
    # solve the linear equations if `(s + Pr q) (s + q) q = Pr Ra a^2`. Of all channels, the one of
    # length 2 sqrt(2) has the least Rayleigh number at which `s` is 0: 27/4 pi^4 (Rayleigh 1916).
    solver = boussinesq.Boussinesq(rayleigh, prandtl, 12, 12, 2 * np.sqrt(2))
    a, q = solver.along[1], solver.squares[0, 1]
    coupling = 4 * prandtl * rayleigh * a**2 / q
    growth = 0.5 * (np.sqrt(((1 - prandtl) * q) ** 2 + coupling) - (1 + prandtl) * q)
    # Products of these amplitudes are smaller than the rounding of the amplitudes.
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
    # `w` itself, `a sin(pi z) cos(a x)`, heats as well.
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


@pytest.fixture
def double(x64):
    """Puts JAX in 64-bit mode, with NumPy's promotion of real numbers to complex ones."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def flow(num_points=24, viscosity=0.05, drag=0.1, forcing=4):
    return parameters.Kolmogorov(num_points, viscosity, drag, forcing)


def points(solver):
    x = 2 * np.pi * np.arange(solver.num_points) / solver.num_points
    return x[:, None], x[None]


def some_vorticity(solver, damping=0.0):
    """Makes the kept modes of white noise, damped by `exp(-damping squares)`."""
    noise = np.random.default_rng(0).normal(size=(solver.num_points,) * 2)
    return solver.modes(noise) * np.exp(-damping * solver.squares)


@pytest.mark.parametrize("along, across", [(1, 1), (2, 2), (3, 1)])
def test_vortices_of_taylor_and_green_decay(double, along, across):
    # Waves of one length are advected along their own contours, so that `u w_x + v w_y` is
    # 0 (Taylor, Phil. Mag. 46, 1923), and each decays alone.
    solver = flow(forcing=0)
    x, y = points(solver)
    wave = np.sin(along * x) * np.sin(across * y) + 0.5 * np.cos(across * x) * np.cos(along * y)
    modes = solver.modes(wave)
    for _ in range(10):
        modes = solver.step(modes, 0.1)
    expected = wave * np.exp(-(0.05 * (along**2 + across**2) + 0.1))
    assert np.allclose(solver.values(modes), expected, atol=1e-13)


def test_the_laminar_flow_comes_from_rest_and_stays(double):
    # A flow along `x` that depends only on `y` advects nothing: `w_t = -rate w - n cos(n y)`.
    solver, rate = flow(), 0.05 * 16 + 0.1
    x, y = points(solver)
    modes = 0 * solver.laminar
    for _ in range(10):
        modes = solver.step(modes, 0.1)
    laminar = 0 * x - 4 * np.cos(4 * y) / rate
    assert np.allclose(solver.values(modes), laminar * (1 - np.exp(-rate)), atol=1e-13)
    assert np.allclose(solver.values(solver.step(solver.laminar, 0.1)), laminar, atol=1e-13)


def test_two_waves_carry_each_other(double):
    # `w = cos(x) + cos(2 y)` has `psi = cos(x) + cos(2 y) / 4`, `u = -sin(2 y) / 2`, `v = sin(x)`
    # and `u w_x + v w_y = (1 / 2 - 2) sin(x) sin(2 y)`.
    solver = flow()
    x, y = points(solver)
    change = solver.tendency(solver.modes(np.cos(x) + np.cos(2 * y)))
    assert np.allclose(solver.values(change), 1.5 * np.sin(x) * np.sin(2 * y), atol=1e-13)


def test_carrying_keeps_energy_and_enstrophy(double):
    # The kept modes conserve both by themselves if no product is aliased to one of them
    # (Kraichnan, Phys. Fluids 10, 1967). Waves along `y` without a negative one count half.
    solver = flow()
    modes = some_vorticity(solver)
    counts = np.where(solver.waves[1] > 0, 2.0, 1.0)
    change = counts * np.real(np.conj(modes) * np.asarray(solver.tendency(modes)))
    for weights in (np.ones_like(solver.squares), 1 / np.maximum(solver.squares, 1)):
        assert np.abs(weights * change).sum() > 1e-3
        assert abs((weights * change).sum()) < 1e-13 * np.abs(weights * change).sum()


def test_the_method_is_of_the_fourth_order(double):
    solver = flow()
    start = 20 * some_vorticity(solver, damping=0.1)
    step = jax.jit(solver.step, static_argnums=1)

    def end(num_steps):
        modes = start
        for _ in range(num_steps):
            modes = step(modes, 1.0 / num_steps)
        return np.asarray(modes)

    coarse, middle, fine = end(32), end(64), end(128)
    ratio = np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)
    assert np.linalg.norm(fine - start) > 0.5 * np.linalg.norm(start)
    assert 14 < ratio < 18


def test_a_coarser_grid_shows_the_same_waves(double):
    solver = flow()
    x, y = points(solver)
    wave = lambda x, y: 2 * np.cos(3 * x - 5 * y) + np.sin(6 * x + y)
    modes = solver.modes(wave(x, y) + np.cos(x + 7 * y) + np.cos(7 * x))
    x, y = points(flow(14))
    # Waves with at least half as many periods as there are points are left out.
    assert np.allclose(parameters.coarsen(modes, 14), wave(x, y), atol=1e-13)
