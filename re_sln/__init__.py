"""SLN (Chen et al., ICLR 2021) with EMA model and label correction, as re-sln trains it.

See README.md.
"""
