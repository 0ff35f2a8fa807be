"""`python -m shipping wheel|lock|deb`: see Makefile."""

import argparse
from pathlib import Path

from shipping import ROOT


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="shipping")
    commands = parser.add_subparsers(dest="command", required=True)
    wheel = commands.add_parser("wheel", help="build a wheel")
    lock = commands.add_parser("lock", help="pin the dependencies")
    lock.add_argument("--upgrade", action="store_true", help="take the newest versions")
    deb = commands.add_parser("deb", help="make the package of this Debian release")
    deb.add_argument("--python", default="/usr/bin/python3", help="that of the release")
    deb.add_argument(
        "--built", type=Path, help="take native modules from this build/, where they are newer than their sources"
    )
    deb.add_argument("--wheels", type=Path, help="keep the wheels of the lock file here")
    deb.add_argument("--tree", type=Path, help="make the package of the release in this directory tree")
    deb.add_argument("--fast", action="store_true", help="compress little")
    for one in (wheel, deb):
        one.add_argument("--output", type=Path, default=ROOT / "dist")
    lock.add_argument("--python", default="/usr/bin/python3", help="that of the oldest Debian release")
    arguments = parser.parse_args()
    if arguments.command == "wheel":
        from shipping.wheel import build

        print(build(arguments.output))
    elif arguments.command == "deb":
        if arguments.tree is not None:
            from shipping import elsewhere

            elsewhere.build(arguments.tree, arguments.output, arguments.wheels or ROOT / "build" / "wheels")
            return
        from shipping.deb import build as package

        made = {"built": arguments.built, "wheels": arguments.wheels, "fast": arguments.fast}
        print(package(arguments.output, python=arguments.python, **made))
    elif arguments.command == "lock":
        from shipping.lock import write

        write(arguments.python, upgrade=arguments.upgrade)


if __name__ == "__main__":
    main()
