"""What runs inside the container, around the agent: shipped into the image, never imported by the worker."""
