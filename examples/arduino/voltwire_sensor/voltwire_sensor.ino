// A sensor that sleeps: it measures, sends what waits, goes by the receipts, and sleeps again.
// For an ESP32, with the library PubSubClient (2.8).
#include <PubSubClient.h>
#include <WiFi.h>
#include <time.h>

#include "config.h"
#include "outbox.h"

const unsigned long CONNECT_MS = 20000;
const unsigned long RECEIPT_MS = 10000;
const int SUPPLY_PIN = 35;
const int BUFFER_BYTES = 1024;  // Of the MQTT client: the largest message in either direction.

RTC_DATA_ATTR Outbox outbox;
WiFiClient network;
PubSubClient client(network);

// Read your sensors here; this is the supply, through a divider by two.
float measure() { return analogReadMilliVolts(SUPPLY_PIN) * 2 / 1000.0f; }

bool connectNetwork() {
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  const unsigned long began = millis();
  while (WiFi.status() != WL_CONNECTED) {
    if (millis() - began > CONNECT_MS) return false;
    delay(100);
  }
  return true;
}

String topic(const char *kind) { return String("devices/") + DEVICE_ID + "/" + kind; }

void onReceipt(char *, uint8_t *payload, unsigned int length) {
  static char text[BUFFER_BYTES + 1];
  if (length > BUFFER_BYTES) return;
  memcpy(text, payload, length);
  text[length] = '\0';
  outbox.settle(text);
}

// The session is kept, so a receipt that comes while we sleep waits in the broker.
bool connectBroker() {
  client.setServer(BROKER, BROKER_PORT);
  client.setBufferSize(BUFFER_BYTES);
  client.setCallback(onReceipt);
  const bool guarded = SECRET[0] != '\0';
  if (!client.connect(DEVICE_ID, guarded ? DEVICE_ID : nullptr, guarded ? SECRET : nullptr, topic("status").c_str(), 1,
                      true, "offline", false)) {
    return false;
  }
  return client.subscribe(topic("receipts").c_str(), 1) &&
         client.publish(topic("status").c_str(), "{\"state\":\"online\",\"receipts\":true}", true);
}

// Page by page, until nothing waits or no receipt comes. PubSubClient publishes with QoS 0 only: the receipt, which
// comes after the commit, is what tells us that the events arrived.
void send() {
  static char json[BUFFER_BYTES - 100];
  while (outbox.count > 0) {
    const int before = outbox.count;
    if (!outbox.oldest(time(nullptr), json, sizeof json)) return;
    if (!client.publish(topic("telemetry").c_str(), json)) return;
    const unsigned long sent = millis();
    while (outbox.count == before) {
      if (millis() - sent > RECEIPT_MS || !client.loop()) return;
      delay(20);
    }
  }
}

void setup() {
  outbox.begin(esp_random());
  outbox.add(time(nullptr), measure());
  if (connectNetwork() && connectBroker()) {
    send();
    char asleep[64];
    snprintf(asleep, sizeof asleep, "{\"state\":\"asleep\",\"wake_in_s\":%lu}", (unsigned long)SLEEP_S);
    client.publish(topic("status").c_str(), asleep, true);
    client.disconnect();
  }
  esp_deep_sleep(SLEEP_S * 1000000ULL);
}

void loop() {}
