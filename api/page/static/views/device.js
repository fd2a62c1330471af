// One device.

import { pill } from "../lib/components.js";
import { fill, h } from "../lib/dom.js";

export const title = (route) => route.segments[1];

export async function show(root, route, app) {
  const device = await app.api.get(`/v1/devices/${encodeURIComponent(route.segments[1])}`);
  fill(root, h("div", { class: "head" }, h("h1", {}, device.name ?? device.device_id), pill(device.state)));
  return () => {};
}
