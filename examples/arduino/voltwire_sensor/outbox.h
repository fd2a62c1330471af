// Events that wait for their receipt, in memory that survives deep sleep.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>

const int EVENTS_MAX = 64;      // Beyond that the oldest is dropped; its missing `seq` shows in Voltwire.
const int EVENTS_PER_SEND = 5;  // As many as fit into the buffer of the MQTT client.

struct Event {
  uint32_t seq;
  uint32_t measured_s;  // By the clock that runs on through deep sleep.
  float supply_v;
};

struct Outbox {
  uint32_t run;  // Random at each start but from deep sleep; 0: not yet begun.
  uint32_t next_seq;
  int count;
  Event events[EVENTS_MAX];

  void begin(uint32_t random) {
    if (run != 0) return;
    run = random | 1;
    next_seq = 1;
    count = 0;
  }

  void add(uint32_t now_s, float supply_v) {
    if (count == EVENTS_MAX) drop(0);
    events[count++] = {next_seq++, now_s, supply_v};
  }

  // The oldest events as JSON; false if they do not fit.
  bool oldest(uint32_t now_s, char *json, size_t size) const {
    size_t used = snprintf(json, size, "[");
    for (int n = 0; n < count && n < EVENTS_PER_SEND; n++) {
      const Event &event = events[n];
      used += snprintf(json + used, used < size ? size - used : 0,
                       "%s{\"event_id\":\"%08lx-%lu\",\"seq\":%lu,\"age_ms\":%llu,\"metrics\":{\"supply_v\":%.3f}}",
                       n == 0 ? "" : ",", (unsigned long)run, (unsigned long)event.seq, (unsigned long)event.seq,
                       1000ULL * (now_s - event.measured_s), event.supply_v);
      if (used >= size) return false;
    }
    return snprintf(json + used, size - used, "]") < (int)(size - used);
  }

  // Removes every event that the receipt names: each has a verdict, and would get the same one again.
  void settle(const char *receipt) {
    for (int n = count - 1; n >= 0; n--) {
      char id[32];
      snprintf(id, sizeof id, "\"%08lx-%lu\"", (unsigned long)run, (unsigned long)events[n].seq);
      if (strstr(receipt, id) != nullptr) drop(n);
    }
  }

 private:
  void drop(int n) {
    memmove(&events[n], &events[n + 1], (count - n - 1) * sizeof(Event));
    count--;
  }
};
