"""pytest: hooks only, no logic."""
