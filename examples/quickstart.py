"""Trains an emulator of Burgers' equation between two different walls, from the data to a picture.

Run it by `hatch run examples:quickstart`, or copy it and put your own data in place of `solve`.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from matplotlib import pyplot as plt

from pdequinox.conv import pad, PhysicsConv, PointwiseLinearConv


# One entry per axis. Along x the domain repeats itself; along y, u is 0 at the lower wall and has
# no flux through the upper one. Points are the centres of cells, walls are half a cell beyond them.
BOUNDARY = ("periodic", ("dirichlet_cell", "neumann_cell"))
SHAPE, H, DT, VISCOSITY, NUM_STEPS = (64, 32), 1 / 32, 0.1, 0.01, 10


def solve(key):
    """Solves `u_t + (u^2 / 2)_x = VISCOSITY (u_xx + u_yy)` by finite volumes, from a random sum of
    waves. The trajectory has the shape (time, channel, x, y).
    """
    x, y = ((jnp.arange(n) + 0.5) * H for n in SHAPE)
    i, (size, phase) = jnp.arange(8)[:, None], jr.normal(key, (2, 8, 1))
    along = 0.5 * size * jnp.cos(jnp.pi * (i % 4) * x + 2 * jnp.pi * phase)
    u = (along.T @ jnp.sin(jnp.pi * (i // 4 + 0.5) * y))[None]

    def substep(_, u):
        e = pad(u, (1, 1), BOUNDARY)  # extended over its boundary as by every layer
        left, right, below, above = e[:, :-1, 1:-1], e[:, 1:, 1:-1], e[:, 1:-1, :-1], e[:, 1:-1, 1:]
        flux_x = (left**2 + right**2) / 4 - VISCOSITY * (right - left) / H
        flux_y = -VISCOSITY * (above - below) / H
        return u - DT / 40 / H * (jnp.diff(flux_x, axis=1) + jnp.diff(flux_y, axis=2))

    step = lambda u, _: (jax.lax.fori_loop(0, 40, substep, u), u)
    return jax.lax.scan(step, u, length=NUM_STEPS + 1)[1]


class Emulator(eqx.Module):
    """Predicts one step of `DT`: the field, plus its change by a residual network."""

    lift: PhysicsConv
    blocks: list[PhysicsConv]
    head: PointwiseLinearConv

    def __init__(self, width, *, key):
        lift_key, head_key, *keys = jr.split(key, 6)
        same = dict(kernel_size=3, boundary_mode=BOUNDARY)
        self.lift = PhysicsConv(2, 1, width, **same, key=lift_key)
        # With these dilations an output sees 10 cells in every direction, and in `DT` the fastest
        # wave of a typical trajectory moves over 6.
        self.blocks = [
            PhysicsConv(2, width, width, dilation=dilation, **same, key=key)
            for dilation, key in zip((1, 2, 4, 2), keys, strict=True)
        ]
        self.head = PointwiseLinearConv(2, width, 1, key=head_key)

    def __call__(self, u):  # one sample, of shape (channel, x, y); batches go through `jax.vmap`
        z = self.lift(u)
        for conv in self.blocks:
            z = z + conv(jax.nn.gelu(z))
        return u + DT * self.head(z)


def loss(emulator, before, after):
    return jnp.mean(((jax.vmap(emulator)(before) - after) / DT) ** 2)


@eqx.filter_jit
def update(emulator, state, optimiser, before, after):
    gradient = eqx.filter_grad(loss)(emulator, before, after)
    updates, state = optimiser.update(gradient, state)
    return eqx.apply_updates(emulator, updates), state


def draw(truth, prediction, time):
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    figure.suptitle(f"Burgers' equation at time {time:g}; u = 0 below, no flux above")
    error, most = prediction - truth, float(abs(truth).max())
    for panel, name, u, limit in [
        (panels[0], "truth", truth, most),
        (panels[1], "prediction", prediction, most),
        (panels[2], "prediction − truth", error, most / 10),
    ]:
        look = dict(cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", extent=(0, 2, 0, 1))
        image = panel.imshow(u.T, interpolation="bilinear", **look)
        panel.set(title=name, xlabel="x", ylabel="y")
        figure.colorbar(image, ax=panel, location="bottom", label="u")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a run of seconds, to test the code")
    parser.add_argument("--output", type=Path, default=Path("results"), help="for the picture")
    options = parser.parse_args()
    num_seen, num_updates = (8, 20) if options.short else (96, 800)

    data_key, weight_key, batch_key = jr.split(jr.key(0), 3)
    data = jax.jit(jax.vmap(solve))(jr.split(data_key, num_seen + 8))
    before, after = (data[:num_seen, i : NUM_STEPS + i].reshape(-1, 1, *SHAPE) for i in (0, 1))
    emulator = Emulator(16, key=weight_key)
    optimiser = optax.adam(optax.cosine_decay_schedule(5e-3, num_updates))
    state = optimiser.init(eqx.filter(emulator, eqx.is_inexact_array))
    for chosen in jr.randint(batch_key, (num_updates, 16), 0, len(before)):
        emulator, state = update(emulator, state, optimiser, before[chosen], after[chosen])

    # The emulator is applied to its own output, over and over, from fields that it has not seen.
    start, truth = data[num_seen:, 0], data[num_seen:, -1]
    step = lambda _, u: jax.vmap(emulator)(u)
    prediction = jax.lax.fori_loop(0, NUM_STEPS, step, start)
    norm = lambda u: jnp.sqrt(jnp.sum(u**2, axis=(1, 2, 3)))
    error, still = (jnp.mean(norm(u - truth) / norm(truth)) for u in (prediction, start))
    text = (
        f"Relative error ‖prediction − truth‖ / ‖truth‖ after {NUM_STEPS} steps, mean over "
        f"{len(truth)} unseen trajectories: {error:.2g}. No change as prediction: {still:.2g}."
    )
    print(text)
    if not error < still:
        raise SystemExit("The emulator is no better than a prediction of no change.")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "quickstart.txt").write_text(text + "\n", encoding="utf-8")
    figure = draw(truth[0, 0], prediction[0, 0], time=NUM_STEPS * DT)
    figure.savefig(options.output / "quickstart.png", dpi=100)


if __name__ == "__main__":
    main()
