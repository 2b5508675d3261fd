"""Looks at everything that callbacks depend on, and says in plain words what is wrong.

checks      what a check is, and how they follow one another
machine     this machine: software, clock, disk, journal
rabbitmq    the way to RabbitMQ, step by step, and what must be there
openim      the receiver, and OpenIM's webhooks.yml
"""

from bridge.doctor.checks import Check, Finding, NotTried, Wrong, examined

__all__ = ["Check", "Finding", "NotTried", "Wrong", "examined"]
