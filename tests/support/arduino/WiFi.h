#pragma once
#include "board.h"

enum { WL_CONNECTED = 3, WL_DISCONNECTED = 6 };

struct WiFiClass {
  bool reachable = true;
  void begin(const char *, const char *) {}
  int status() const { return reachable ? WL_CONNECTED : WL_DISCONNECTED; }
};
inline WiFiClass WiFi;

struct WiFiClient {};
