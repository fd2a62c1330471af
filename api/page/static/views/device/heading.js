// The head of a device: its name and state, what needs attention, and its newest values.

import { pill, toast } from "../../lib/components.js";
import { fill, h, setText } from "../../lib/dom.js";
import { ago, number, plural, withUnit } from "../../lib/format.js";
import { inOrder, unitOf } from "../../lib/metrics.js";
import { address } from "../../lib/router.js";
import { incidentName } from "../alerts/words.js";

const OLD_MS = 60_000;  // An older value says its age.
const TILES_MAX = 12;

export class Heading {
  constructor({ app, device, profile }) {
    Object.assign(this, { app, device, profile });
    this.element = h("div", { class: "head" });
    this.facts = h("span", { class: "soft" });
    this.drawn = "";
  }

  draw() {
    const { device } = this;
    const key = JSON.stringify([device.name, device.state, device.tags, device.profile, device.completeness_percent]);
    if (key !== this.drawn) this.build(device);
    this.drawn = key;
    const since = `since ${this.app.time.short(device.since)}`;
    const seen = device.last_seen ? `last seen ${ago(device.last_seen)}` : "never seen";
    setText(this.facts, [since, seen, interval(device)].filter(Boolean).join(" · "));
  }

  build(device) {
    const complete = device.completeness_percent;
    fill(this.element,
      h("div", { class: "grow" },
        h("p", { class: "path soft" }, h("a", { href: "#/fleet" }, "Fleet"), " / ", h("span", { class: "mono" }, device.device_id)),
        h("div", { class: "row" }, h("h1", {}, device.name ?? device.device_id), pill(device.state), this.facts)),
      h("div", { class: "row" },
        device.tags.map((tag) => h("a", { class: "tag", href: address(["fleet"], { q: tag }) }, tag)),
        h("span", { class: "tag" }, `profile ${device.profile}`),
        complete !== null && h("span", { class: `tag ${complete < 100 ? "warn" : ""}`, title: "Of the events with a number in the last 24 hours" }, `${number(complete)} % complete`)));
  }
}

function interval({ expected_interval_s: seconds, source }) {
  return seconds ? `every ${number(seconds)} s (${source})` : "";
}

// What needs attention: open incidents, flapping, ids that were used twice.
export function notices(app, device, incidents, onChanged) {
  const open = incidents.filter(({ state }) => state !== "resolved").slice(0, 5);
  return [
    ...open.map((incident) => h("p", { class: `notice ${incident.severity}` }, h("strong", {}, incidentName(incident)), ` since ${app.time.short(incident.opened_at)} `,
      incident.state === "acknowledged" && `(acknowledged${incident.acknowledged_by ? ` by ${incident.acknowledged_by}` : ""}) `,
      h("a", { href: address(["alerts", incident.id]) }, "Show"))),
    device.flapping && h("p", { class: "notice" }, "Its presence changes more than 6 times in an hour."),
    device.reused_ids > 0 && reused(app, device, onChanged),
  ];
}

function reused(app, device, onChanged) {
  const path = `/v1/devices/${encodeURIComponent(device.device_id)}/reused_ids`;
  const reset = async () => {
    try {
      await app.api.send("DELETE", path);
      onChanged();
    } catch (problem) {
      toast(problem.detail, { kind: "bad" });
    }
  };
  return h("p", { class: "notice" }, `It used the event_id of an earlier event for ${plural(device.reused_ids, "other event")}, which ${device.reused_ids === 1 ? "was" : "were"} not stored. `,
    app.may("admin") && h("button", { type: "button", onclick: reset }, "Set to zero"));
}

// The newest value of each metric. Numbers change in place, and a screen reader does not announce each change.
export class Tiles {
  constructor({ app, profile }) {
    Object.assign(this, { app, profile, tiles: new Map(), values: Object.create(null) });
    this.element = h("div", { class: "tiles values" });
  }

  // `values`: metric → { value, timestamp }; older ones than those shown are left out.
  update(values) {
    for (const [metric, next] of Object.entries(values)) {
      const before = this.values[metric];
      if (!before || Date.parse(next.timestamp) >= Date.parse(before.timestamp)) this.values[metric] = next;
    }
    const names = inOrder(Object.keys(this.values)).slice(0, TILES_MAX);
    if (names.some((name) => !this.tiles.has(name))) this.build(names);
    this.draw();
  }

  build(names) {
    this.tiles = new Map(names.map((name) => [name, { value: h("strong"), age: h("small", { class: "soft" }) }]));
    fill(this.element, names.map((name) => {
      const { value, age } = this.tiles.get(name);
      return h("div", { class: "tile" }, value, h("span", { class: "soft", title: name }, name), age);
    }));
  }

  draw(now = Date.now()) {
    for (const [name, { value, age }] of this.tiles) {
      const { value: newest, timestamp } = this.values[name];
      setText(value, withUnit(newest, unitOf(this.profile, name)));
      setText(age, now - Date.parse(timestamp) > OLD_MS ? ago(timestamp, now) : "");
    }
  }
}
