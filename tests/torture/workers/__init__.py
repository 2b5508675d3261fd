"""Workers at work, who die, come and go at random, and somebody who counts.

    events ──► RabbitMQ ──► workers ──► PostgreSQL ──► ledger
                              ▲
                           changes

`python -m tests.torture workers --help` runs it for as long as you like.
"""
