"""References: what objects name and select is there, across all releases of an environment."""
