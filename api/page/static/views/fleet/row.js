// A row of the list. It is made once for a device and then changes in place.

import { h, setAttribute, setText, svg } from "../../lib/dom.js";
import { ago, number, plural, stateName, withUnit } from "../../lib/format.js";
import { address } from "../../lib/router.js";
import { batteryOf, mainMetric } from "./order.js";

const LOW_PERCENT = 20;
const MIDDLE_PERCENT = 40;
const TAGS_SHOWN = 2;
const SPARK = { width: 104, height: 26 };

export class Row {
  // `columns`: the metrics that have one, `unit(device, metric)` theirs.
  constructor(device, columns, unit) {
    Object.assign(this, { device, columns, unit });
    this.dot = h("i", { "aria-hidden": "true" });
    this.state = h("span");
    this.name = h("a", { href: address(["devices", device.device_id]) });
    this.id = h("span", { class: "mono soft" });
    this.trouble = h("span", { class: "trouble" });
    this.tags = h("span", { class: "tags" });
    this.seen = h("span");
    this.bar = h("i");
    this.percent = h("span");
    this.battery = h("span", { class: "battery" }, h("span", { class: "gauge", "aria-hidden": "true" }, this.bar), this.percent);
    this.instead = { name: h("small"), value: h("span") };
    this.path = svg("path", { "vector-effect": "non-scaling-stroke" });
    this.spark = svg("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
    this.values = columns.map(() => h("span"));
    this.element = this.build();
    this.tagText = null;
  }

  build() {
    const cell = (kind, ...content) => h("td", { class: kind }, content);
    return h("tr", {},
      cell("state", h("span", { class: "pill" }, this.dot, this.state)),
      cell("device", h("div", {}, this.name, this.trouble, this.tags), this.id),
      cell("seen", this.seen),
      cell("level", this.battery, h("span", { class: "instead" }, this.instead.name, this.instead.value)),
      cell("trend", this.spark),
      this.values.map((value, i) => h("td", { class: "number metric", "data-name": this.columns[i] }, value)));
  }

  update(index, now) {
    const { device } = this;
    setAttribute(this.element, "aria-rowindex", index + 2);
    setAttribute(this.dot, "class", `dot ${device.state}`);
    setText(this.state, stateName(device.state));
    setText(this.name, device.name ?? device.device_id);
    setText(this.id, device.name ? device.device_id : "");
    this.updateTrouble(device);
    this.updateTags(device.tags);
    setText(this.seen, ago(device.last_seen, now));
    this.updateBattery(batteryOf(device));
    this.columns.forEach((metric, i) => setText(this.values[i], this.valueOf(metric)));
  }

  valueOf(metric) {
    const found = this.device.latest?.[metric];
    return found ? withUnit(found.value, this.unit(this.device, metric)) : "–";
  }

  updateTrouble({ open_incidents: open, trouble, severity, flapping }) {
    const more = trouble && open > 1 ? ` + ${open - 1}` : "";
    const text = open ? (trouble ?? plural(open, "alert")) + more : flapping ? "flapping" : "";
    setText(this.trouble, text);
    setAttribute(this.trouble, "class", `trouble ${open ? (severity ?? "warning") : "info"}`);
  }

  updateTags(tags) {
    const text = tags.slice(0, TAGS_SHOWN).join("\n");
    if (text === this.tagText) return;
    this.tagText = text;
    this.tags.replaceChildren(...tags.slice(0, TAGS_SHOWN).map((tag) => h("span", { class: "tag" }, tag)));
  }

  updateBattery(percent) {
    this.battery.hidden = percent === null;
    const metric = percent === null ? mainMetric(this.device) : undefined;
    setText(this.instead.name, metric ?? "");
    setText(this.instead.value, metric === undefined ? "" : this.valueOf(metric));
    if (percent === null) return;
    setText(this.percent, `${number(Math.round(percent * 10) / 10)} %`);
    setAttribute(this.bar, "class", percent < LOW_PERCENT ? "low" : percent < MIDDLE_PERCENT ? "middle" : "");
    this.bar.style.setProperty("width", `${Math.min(100, Math.max(0, percent))}%`);
  }

  setSpark(path) {
    setAttribute(this.path, "d", path);
  }
}

Row.SPARK = SPARK;
