"""A connection to an MQTT broker on asyncio: what the MQTT gateway and simulated bases share."""
