// Lets the sketch wake several times. Prints what was published, and after each wake how many events wait.
#include "sketch.cpp"

static void wake(const char *how) {
  setup();
  printf("%s: %d wait, sleeps %llu s\n", how, outbox.count, (unsigned long long)(board::slept_us / 1000000));
  board::clock_s += SLEEP_S;
}

int main() {
  broker::receipt_for = [](const std::string &payload) {
    std::string receipt = "[";
    const std::string name = "\"event_id\":";
    for (size_t at = payload.find(name); at != std::string::npos; at = payload.find(name, at + 1)) {
      const std::string id = payload.substr(at + name.size(), payload.find(',', at) - at - name.size());
      receipt += "{\"event_id\":" + id + ",\"status\":\"duplicate\",\"reason\":\"other_content\"},";
    }
    return receipt + "]";
  };
  WiFi.reachable = false;
  wake("no network");
  WiFi.reachable = true;
  broker::reachable = false;
  wake("no broker");
  broker::reachable = true;
  broker::loses_telemetry = true;
  wake("lost message");
  broker::loses_telemetry = false;
  wake("all well");
  wake("all well");
  broker::reachable = false;
  for (int n = 0; n < 70; n++) wake("no broker");
  broker::reachable = true;
  wake("all well");
  for (auto &message : broker::published) puts(message.c_str());
}
