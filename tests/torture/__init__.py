"""OpenIM at work, everything going wrong, and somebody who counts.

    callers ──► receiver ──► line ──► RabbitMQ ──► collector
       │            ▲          ▲         ▲             │
       │            └───── faults ───────┘             │
       └────────────────► ledger ◄─────────────────────┘

`python -m tests.torture --help` runs it for as long as you like.
"""
