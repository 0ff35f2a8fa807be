"""`python -m proxy` is `steelyard`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
