"""The command line: every command is a few lines over the layers."""


def main() -> None:
    """Run the command line."""
