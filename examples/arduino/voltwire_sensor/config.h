// What differs from device to device.
#pragma once
#include <cstdint>

const char WIFI_NAME[] = "my network";
const char WIFI_PASSWORD[] = "its password";
const char BROKER[] = "192.168.1.5";
const uint16_t BROKER_PORT = 1883;
const char DEVICE_ID[] = "garden-2";
const char SECRET[] = "";  // Of `voltwire device add garden-2`; empty where authentication is off.
const uint32_t SLEEP_S = 600;
