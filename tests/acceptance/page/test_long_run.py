"""A tab that is left open: a day of live data in fast motion, with a heap that stays flat."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.chaos  # A minute.

Send = Callable[..., None]
EVENTS = 86_400  # One a second for a day.
HEAP_GROWTH_MB_MAX = 6
# Feeds the page what its stream would, and lets it draw in between; returns the heap after each tenth, in MB.
DAY = """async (count) => {
  const { app } = await import(document.querySelector("script[src$='/main.js']").src);
  const device_id = "day";
  const start = Date.now() - count * 1000;
  const heap = [];
  for (let n = 0; n < count; n += 1) {
    const at = new Date(start + n * 1000).toISOString();
    const metrics = { soc_percent: 50 + 40 * Math.sin(n / 5000), voltage_v: 350 + (n % 50), temp_c: n % 40 };
    const times = { timestamp: at, received_at: at };
    app.live.call("latest", [{ event_id: `n${n}`, device_id, ...times, metrics, tags: ["day"], seq: n }]);
    if (n % 3600 === 0) {
      const state = n % 7200 ? "online" : "offline";
      app.live.call("presence", { id: n, device_id, state, since: at, reason: "x", last_seen: at });
    }
    if (n % 200 === 0) await new Promise((resolve) => setTimeout(resolve));
    if (n % (count / 10) === count / 10 - 1) {
      gc();
      heap.push(performance.memory.usedJSHeapSize / 1e6);
    }
  }
  return heap;
}"""


@pytest.mark.parametrize("view", ["#/devices/day?range=1h", "#/fleet"])
def test_a_day_of_live_data_leaves_the_heap_flat(page: Page, send: Send, view: str) -> None:
    send({"device_id": "day", "metrics": {"soc_percent": 50, "voltage_v": 350, "temp_c": 20}})
    page.goto(f"/{view}")
    expect(page.get_by_text("day").first).to_be_visible()
    heap = page.evaluate(DAY, EVENTS)
    assert heap[-1] - heap[0] < HEAP_GROWTH_MB_MAX, heap
    nodes = page.evaluate("document.querySelectorAll('*').length")
    assert nodes < 2_000
