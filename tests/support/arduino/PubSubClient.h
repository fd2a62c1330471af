// The part of PubSubClient 2.8 that the sketch calls, with a broker that may lose what is published.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "WiFi.h"

#define MQTT_MAX_PACKET_SIZE 256

namespace broker {
inline bool reachable = true;
inline bool loses_telemetry = false;
inline std::vector<std::string> published;  // "topic payload"
inline std::vector<std::string> receipts;   // To be delivered.
inline std::function<std::string(const std::string &)> receipt_for;
}  // namespace broker

class PubSubClient {
 public:
  explicit PubSubClient(WiFiClient &) {}
  PubSubClient &setServer(const char *, uint16_t) { return *this; }
  PubSubClient &setCallback(std::function<void(char *, uint8_t *, unsigned int)> callback) {
    callback_ = callback;
    return *this;
  }
  bool setBufferSize(uint16_t size) {
    size_ = size;
    return true;
  }
  bool connect(const char *, const char *, const char *, const char *, uint8_t, bool, const char *, bool) {
    return broker::reachable;
  }
  bool subscribe(const char *, uint8_t) { return true; }
  bool publish(const char *topic, const char *payload, bool = false) {
    // Header, length of the topic and both texts must fit into the buffer.
    if (7 + strlen(topic) + strlen(payload) > size_) return false;
    const bool telemetry = strstr(topic, "/telemetry") != nullptr;
    if (telemetry && broker::loses_telemetry) return true;
    broker::published.push_back(std::string(topic) + " " + payload);
    if (telemetry) broker::receipts.push_back(broker::receipt_for(payload));
    return true;
  }
  bool loop() {
    for (auto &receipt : broker::receipts) {
      const bool fits = receipt.size() + 50 <= size_;
      if (fits) callback_(nullptr, (uint8_t *)receipt.data(), receipt.size());
    }
    broker::receipts.clear();
    return true;
  }
  void disconnect() {}

 private:
  std::function<void(char *, uint8_t *, unsigned int)> callback_;
  size_t size_ = MQTT_MAX_PACKET_SIZE;
};
