"""The exact solution of `poles.py`: bells that a wind of solid-body rotation carries around a
sphere.
"""

import numpy as np
from jaxtyping import Float


def grid(
    num_latitudes: int, num_longitudes: int
) -> tuple[Float[np.ndarray, "lat 1"], Float[np.ndarray, "1 lon"]]:
    """Gives the latitudes of the centres of cells, from south to north, the first and the last half
    a cell from the poles, and the longitudes.
    """
    latitudes = np.pi * ((np.arange(num_latitudes) + 0.5) / num_latitudes - 0.5)
    longitudes = 2 * np.pi * np.arange(num_longitudes) / num_longitudes
    return latitudes[:, None], longitudes[None]


def place(
    latitude: Float[np.ndarray, "*a"], longitude: Float[np.ndarray, "*b"]
) -> Float[np.ndarray, "*c 3"]:
    """Gives the point of the unit sphere."""
    parts = (
        np.cos(latitude) * np.cos(longitude),
        np.cos(latitude) * np.sin(longitude),
        np.sin(latitude),
    )
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def wind(
    axis: Float[np.ndarray, "*S 3"],
    latitude: Float[np.ndarray, "lat 1"],
    longitude: Float[np.ndarray, "1 lon"],
) -> Float[np.ndarray, "*S 2 lat lon"]:
    """Gives the components to the east and to the north of the velocity of the rotation about
    `axis`, a unit vector, by an angle of 1 in the unit of time.

    At the place `r` with the unit vectors `east` and `north`, the velocity is `axis x r`, so
    `u = east . (axis x r) = axis . (r x east) = axis . north` and `v = -axis . east`. In test case
    1 of Williamson et al. (A standard test set for numerical approximations to the shallow water
    equations in spherical geometry, J. Comput. Phys. 102, 1992), `axis` is
    `(-sin alpha, 0, cos alpha)`.
    """
    x, y, z = (axis[..., i, None, None] for i in range(3))
    along = x * np.cos(longitude) + y * np.sin(longitude)
    u = z * np.cos(latitude) - np.sin(latitude) * along
    v = x * np.sin(longitude) - y * np.cos(longitude)
    return np.stack(np.broadcast_arrays(u, v), axis=-3)


def rotate(
    points: Float[np.ndarray, "*S 3"], axis: Float[np.ndarray, "*S 3"], angle: float
) -> Float[np.ndarray, "*S 3"]:
    """Rotates points about unit vectors, by Rodrigues' formula."""
    along = np.sum(points * axis, axis=-1, keepdims=True) * axis
    return along + np.cos(angle) * (points - along) + np.sin(angle) * np.cross(axis, points)


def bell(
    points: Float[np.ndarray, "*space 3"],
    centre: Float[np.ndarray, "*S 3"],
    radius: Float[np.ndarray, "*S"],
) -> Float[np.ndarray, "*S_and_space"]:
    """Gives the cosine bell of test case 1, `(1 + cos(pi d / radius)) / 2` at distances `d` of less
    than the radius, along great circles, from the centre.
    """
    cosines = np.tensordot(centre, points, axes=(-1, -1))
    distances = np.arccos(np.clip(cosines, -1, 1))
    radius = radius.reshape(radius.shape + (1,) * (points.ndim - 1))
    return 0.5 * (1 + np.cos(np.pi * np.minimum(distances / radius, 1)))
