"""Workers that apply business logic to OpenIM's callbacks, taken from RabbitMQ."""
