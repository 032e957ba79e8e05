"""The HTTP tunnel of a simulated base: what the Java one does with Netty and HttpURLConnection."""
