"""Compares Steelyard with its peers on one bed, over sockets only. Runs from a checkout: `python -m bench`."""
