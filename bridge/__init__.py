"""Takes OpenIM's callbacks, keeps them on disk and publishes them to RabbitMQ."""
