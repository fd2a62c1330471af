"""A sensor that sleeps: it measures, sends what waits, goes by the receipts, and sleeps again."""

import json
import os
import time

import machine
import network
from config import BROKER, DEVICE_ID, PORT, SECRET, SLEEP_S, WIFI
from outbox import Outbox
from umqtt.simple import MQTTClient

CONNECT_S = 20
RECEIPT_S = 10


def measure():
    """Read your sensors here; this is the supply of an ESP32, through a divider by two."""
    return {"supply_v": round(machine.ADC(machine.Pin(35)).read_uv() * 2 / 1e6, 3)}


def this_run():
    """A random name that lives as long as the clock does: through deep sleep, not through a power cut."""
    memory = machine.RTC().memory()
    if not memory:
        memory = "".join("%02x" % byte for byte in os.urandom(4)).encode()
        machine.RTC().memory(memory)
    return memory.decode()


def connect_wifi():
    station = network.WLAN(network.STA_IF)
    station.active(True)
    station.connect(*WIFI)
    deadline = time.time() + CONNECT_S
    while not station.isconnected():
        if time.time() > deadline:
            raise OSError("no network")
        time.sleep(0.1)


def topic(kind):
    return "devices/%s/%s" % (DEVICE_ID, kind)


def connect(on_receipt):
    """The session is kept, so a receipt that comes while we sleep waits in the broker."""
    client = MQTTClient(
        DEVICE_ID, BROKER, PORT, user=SECRET and DEVICE_ID, password=SECRET, keepalive=60
    )
    client.set_callback(lambda _topic, payload: on_receipt(json.loads(payload)))
    client.set_last_will(topic("status"), "offline", retain=True, qos=1)
    client.connect(clean_session=False)
    client.subscribe(topic("receipts"), qos=1)
    birth = {"state": "online", "receipts": True}
    client.publish(topic("status"), json.dumps(birth), retain=True, qos=1)
    return client


def send(client, outbox, run):
    """Page by page, until nothing waits or no receipt comes."""
    while len(outbox):
        before = len(outbox)
        events = outbox.oldest(run, int(time.time()))
        client.publish(topic("telemetry"), json.dumps(events), qos=1)
        deadline = time.time() + RECEIPT_S
        while len(outbox) == before:
            if time.time() > deadline:
                return
            client.check_msg()
            time.sleep(0.05)


def wake():
    run, outbox = this_run(), Outbox()
    outbox.add(run, int(time.time()), measure())
    try:
        connect_wifi()
        client = connect(outbox.settle)
        send(client, outbox, run)
        asleep = {"state": "asleep", "wake_in_s": SLEEP_S}
        client.publish(topic("status"), json.dumps(asleep), retain=True, qos=1)
        client.disconnect()
    except OSError as error:  # No network, no broker: what waits is sent after the next sleep.
        print("not sent:", error)
    machine.deepsleep(1000 * SLEEP_S)


wake()
