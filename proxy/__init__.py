"""Steelyard: a load balancer for DNS, LDAP, MySQL and mail, and the only package that knows `health` and `vrrp`."""


def __getattr__(name: str) -> str:
    """Return `__version__`, read from the distribution when it is wanted: workers need neither it nor its 3 MB of modules."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("steelyard")
    except PackageNotFoundError:  # a bare checkout that was never installed
        return "0+checkout"
