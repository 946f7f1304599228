"""Messages to others: MQTT and webhooks, which catch up after an outage."""
