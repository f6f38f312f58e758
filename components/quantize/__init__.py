"""Quantization: recipes, calibration data, the tools' scripts, the job's driver, and what it makes."""
