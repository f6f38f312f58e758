"""Diptych: a base vision-language model and its quantized versions, side by side."""

__version__ = "0.1.0"
