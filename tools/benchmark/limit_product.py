"""The operations of a row as one product of matrices."""

from limits import product as prepare


__all__ = ["prepare"]
