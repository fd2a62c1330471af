"""What differs from device to device; copy it to the board with main.py and outbox.py."""

WIFI = ("my network", "its password")
BROKER, PORT = "192.168.1.5", 1883
DEVICE_ID = "garden-1"
SECRET = None  # What `voltwire device add garden-1` showed; None where authentication is off.
SLEEP_S = 600
