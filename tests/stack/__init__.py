"""The Compose stack under load, while its containers are killed and replaced.

stack.py      the stack: its containers, how they are killed and replaced
collector.py  what arrives in RabbitMQ, as another team gets it
alerts.py     what Prometheus tells of it
__main__.py   what happens in which order, and what must hold
"""
