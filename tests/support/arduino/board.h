// Stands in for an ESP32: the clocks are counters, nothing waits, and deep sleep returns to the test.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>

#define RTC_DATA_ATTR
#define time(where) board::clock_s

namespace board {
inline time_t clock_s = 1000;
inline unsigned long clock_ms = 0;
inline uint64_t slept_us = 0;
}  // namespace board

class String {
 public:
  String(const char *text) : text_(text) {}
  String operator+(const char *more) const { return String((text_ + more).c_str()); }
  const char *c_str() const { return text_.c_str(); }

 private:
  std::string text_;
};

inline unsigned long millis() { return board::clock_ms; }
inline void delay(unsigned long ms) { board::clock_ms += ms; }
inline uint32_t analogReadMilliVolts(int) { return 1900; }
inline uint32_t esp_random() { return 0xdecade; }
inline void esp_deep_sleep(uint64_t us) { board::slept_us = us; }
