"""The MQTT tunnel of a simulated base: what the Java one does with Paho, on asyncio."""
