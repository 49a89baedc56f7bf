"""Verdicts to text: one file per format. Nothing below this layer prints."""
