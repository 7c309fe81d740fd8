"""The lines of a client's steps: no ids or times, and revisions counted from the first step."""

import os
import sys


def host_and_port(name):
    """The address in an environment variable."""
    host, port = os.environ[name].rsplit(":", 1)
    return host, int(port)


def say(step, *said):
    """Prints the line of a step."""
    print(f"{step}:", *said, flush=True)


def ask(fault):
    """Asks the driver for a fault and waits until it is done."""
    print(f"@{fault}", flush=True)
    if not sys.stdin.readline():
        sys.exit("the driver is gone")


class Base:
    """Makes text of results, with revisions relative to the first one."""

    def __init__(self, revision):
        self.revision = revision

    def rev(self, revision):
        return f"{revision - self.revision:+d}" if revision else "0"

    def pair(self, kv):
        """A pair of a key and a value as the protocol has it, or none."""
        if kv is None or not kv.key:
            return "none"
        leased = " leased" if kv.lease else ""
        return (
            f"{kv.key.decode()}={kv.value.decode()} created {self.rev(kv.create_revision)} "
            f"modified {self.rev(kv.mod_revision)} version {kv.version}{leased}"
        )

    def pairs(self, kvs):
        return "[" + "; ".join(self.pair(kv) for kv in kvs) + "]"


def error_text(error):
    """The kind and the message of an error, without the library's own words."""
    code = getattr(error, "code", None)
    details = getattr(error, "details", None)
    cause = error.__cause__ or error
    code = code or getattr(cause, "code", None)
    details = details or getattr(cause, "details", None)
    if code and details:
        return f"error {type(error).__name__} {code()}: {details()}"
    return f"error {type(error).__name__}: {error}"
