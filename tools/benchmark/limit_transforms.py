"""A forward and an inverse transform of the field of a row."""

from limits import transforms as prepare


__all__ = ["prepare"]
