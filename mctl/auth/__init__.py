"""Which server is asked, how it is known to be the right one, and as whom: decided before anything is sent."""
