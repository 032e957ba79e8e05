"""The MQTT gateway: bases that are reached over a broker."""
