"""The door for bulk readers: Arrow Flight, and Flight SQL for the drivers that speak it."""
