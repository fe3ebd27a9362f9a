"""Does the operations of a row as one product of matrices: a limit for any layer."""

from limits import product as prepare


__all__ = ["prepare"]
