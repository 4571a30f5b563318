"""Anycastle: steer users to the closest healthy site that already has what they ask for."""

__version__ = "0.1.0"
