"""Prepares releases of the packages: `check` says whether one is ready, `build` makes its files,
and `record` keeps the public names. Run by `hatch run release:...`; see CONTRIBUTING.md.
"""
