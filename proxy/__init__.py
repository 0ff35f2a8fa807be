"""Steelyard: a load balancer for DNS, LDAP, MySQL and mail, and the only package that knows `health` and `vrrp`."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("steelyard")
except PackageNotFoundError:  # a bare checkout that was never installed
    __version__ = "0+checkout"
