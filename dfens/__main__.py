"""`python -m dfens` and the console script `dfens`."""

from dfens.cli import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="dfens")


if __name__ == "__main__":
    main()
