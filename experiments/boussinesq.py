"""The solver of `convection.py`: a fluid between two plates that is heated from below."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Complex, Float


@dataclass(frozen=True)
class Boussinesq:
    """Solves the Boussinesq equations between free-slip plates of fixed temperatures, by a spectral
    method (P. G. Drazin and W. H. Reid, Hydrodynamic Stability, 1981, chapter 2, for the equations
    and their scales).

    Lengths are in units of the distance of the plates, times in those of the diffusion of heat over
    it, temperatures in their difference. With `z` across, `x` along, the stream function
    `w = psi_x`, `u = -psi_z` and the vorticity `zeta = w_x - u_z = psi_xx + psi_zz`, the deviation
    `theta` from the conduction profile `1 - z` obeys

        zeta_t + u zeta_x + w zeta_z = Pr (zeta_xx + zeta_zz) + Pr Ra theta_x,
        theta_t + u theta_x + w theta_z = w + theta_xx + theta_zz.

    A free-slip plate has `w = 0` and `u_z = 0`, so `psi = zeta = theta = 0` on it, and the terms of
    both equations are odd about it: `psi` and `theta` stay sums of `sin(pi m z) exp(i a k x)`, with
    `a = 2 pi / length`. The points are the centres of cells, `N` from plate to plate. Products have
    modes up to `2 M`, of which the mode `m` takes the shape of the mode `2 N - m` on the
    points: with `M < 2 N / 3`, none of these is a kept one. The same holds along the plates.
    """

    rayleigh: float
    prandtl: float
    num_across: int
    num_along: int
    length: float

    @cached_property
    def across(self) -> Float[np.ndarray, "M"]:
        """Gives the wavenumbers `pi m` of the sines."""
        return np.pi * np.arange(1, (2 * self.num_across - 1) // 3 + 1)

    @cached_property
    def along(self) -> Float[np.ndarray, "K"]:
        """Gives the wavenumbers `a k`, without the negative ones, which follow because the fields
        are real.
        """
        return 2 * np.pi / self.length * np.arange((self.num_along - 1) // 3 + 1)

    @cached_property
    def squares(self) -> Float[np.ndarray, "M K"]:
        return self.across[:, None] ** 2 + self.along**2

    @cached_property
    def sines(self) -> Float[np.ndarray, "z M"]:
        return np.sin(self.across * (np.arange(self.num_across)[:, None] + 0.5) / self.num_across)

    @cached_property
    def cosines(self) -> Float[np.ndarray, "z M"]:
        return np.cos(self.across * (np.arange(self.num_across)[:, None] + 0.5) / self.num_across)

    def values(
        self, functions: Float[np.ndarray, "z M"], modes: Complex[np.ndarray, "*S M K"]
    ) -> Float[np.ndarray, "*S z x"]:
        """Computes the sum of the modes at the points, with the sines or the cosines across."""
        return functions @ np.fft.irfft(modes, self.num_along, norm="forward")

    def modes(
        self, functions: Float[np.ndarray, "z M"], values: Float[np.ndarray, "*S z x"]
    ) -> Complex[np.ndarray, "*S M K"]:
        """Computes the amplitudes of the kept modes: the squares of a sine and of a cosine have the
        sum `N / 2` over the points.
        """
        spectrum = np.fft.rfft(values, norm="forward")[..., : len(self.along)]
        return 2 / self.num_across * (functions.T @ spectrum)

    def tendency(self, state: Complex[np.ndarray, "2 *S M K"]) -> Complex[np.ndarray, "2 *S M K"]:
        """Computes the time derivative of `(zeta, theta)` without diffusion."""
        psi, slope = -state[0] / self.squares, 1j * self.along
        u = self.values(self.cosines, -self.across[:, None] * psi)
        w = self.values(self.sines, slope * psi)
        carried = u * self.values(self.sines, slope * state)
        carried += w * self.values(self.cosines, self.across[:, None] * state)
        change = -self.modes(self.sines, carried)
        change[0] += self.prandtl * self.rayleigh * slope * state[1]
        change[1] += slope * psi
        return change

    def step(
        self, state: Complex[np.ndarray, "2 *S M K"], tau: float
    ) -> Complex[np.ndarray, "2 *S M K"]:
        """Takes a step of the classical Runge-Kutta method for the state times `exp(squares t)`,
        which leaves diffusion exact.
        """
        rates = np.stack([self.prandtl * self.squares, self.squares])
        rates = rates.reshape(2, *(1,) * (state.ndim - 3), *self.squares.shape)
        half = np.exp(-rates * tau / 2)
        first = self.tendency(state)
        second = self.tendency(half * (state + tau / 2 * first))
        third = self.tendency(half * state + tau / 2 * second)
        fourth = self.tendency(half * (half * state + tau * third))
        return half * (half * (state + tau / 6 * first) + tau / 3 * (second + third)) + (
            tau / 6 * fourth
        )

    def fields(self, state: Complex[np.ndarray, "2 *S M K"]) -> Float[np.ndarray, "*S 4 z x"]:
        """Gives `w`, `u`, `theta` and the pressure `p`, of mean 0, at the points.

        The divergence of the momentum equation is `p_xx + p_zz = 2 (u_x w_z - u_z w_x) +
        Pr Ra theta_z`, as `u_x + w_z = 0`. The right side is even about the plates, and so is `p`.
        """
        psi, slope, rise = -state[0] / self.squares, 1j * self.along, self.across[:, None]
        w = self.values(self.sines, slope * psi)
        u = self.values(self.cosines, -rise * psi)
        theta = self.values(self.sines, state[1])
        w_z = self.values(self.cosines, rise * slope * psi)
        u_z = self.values(self.sines, rise**2 * psi)
        w_x = self.values(self.sines, slope**2 * psi)
        theta_z = self.values(self.cosines, rise * state[1])
        source = -2 * (w_z**2 + u_z * w_x) + self.prandtl * self.rayleigh * theta_z
        # The constant across the channel is even too. Its square has the sum `N`, not `N / 2`.
        cosines = np.concatenate([np.full_like(self.cosines[:, :1], 1), self.cosines], axis=1)
        squares = np.concatenate([self.along[None] ** 2, self.squares])
        squares[0, 0] = np.inf
        modes = self.modes(cosines, source)
        modes[..., 0, :] /= 2
        p = self.values(cosines, -modes / squares)
        return np.stack([w, u, theta, p], axis=-3)
