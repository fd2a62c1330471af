// The bar at the top: navigation, the state of the stream, the time zone, light or dark.

import { fill, h, setText } from "./lib/dom.js";
import { LOCAL_ZONE, read, write } from "./lib/time.js";
import { ROUTES } from "./routes.js";

const THEME = "voltwire.theme";
const THEMES = ["auto", "light", "dark"];
const LINK_TEXTS = { live: "live", connecting: "reconnecting…", stopped: "not connected" };
const COUNT_EVERY_MS = 2_000;  // At most; a storm of alerts is one number.

export class Bar {
  constructor(place, app) {
    this.place = place;
    this.app = app;
    this.link = h("span", { class: "link", role: "status" });
    this.badge = h("span", { class: "badge", hidden: true });
    app.live.on("status", (status) => this.showLink(status));
    for (const type of ["alert", "resolved", "acknowledged"]) app.live.on(type, () => this.countSoon());
    setTheme(read(THEME));
  }

  draw() {
    const { app } = this;
    const offered = ROUTES.filter(({ nav, only }) => nav && !app.isStranger && (!only || only(app)));
    this.links = new Map(offered.map((route) => [route.name, this.navLink(route)]));
    fill(this.place,
      h("a", { class: "brand", href: "#/fleet" }, h("span", { class: "mark", "aria-hidden": "true" }), "Voltwire"),
      h("nav", { "aria-label": "Pages" }, [...this.links.values()]),
      h("div", { class: "tools" }, this.link, this.zoneChoice(), this.themeButton(), app.isStranger ? null : this.extra?.()));
    this.mark(this.marked);
    this.showLink(app.live.status);
    this.countSoon();
  }

  navLink({ name, nav }) {
    return h("a", { href: `#/${name}` }, nav, name === "alerts" ? this.badge : null);
  }

  mark(route) {
    this.marked = route;
    const current = route?.partOf ?? route?.name;
    for (const [name, link] of this.links ?? []) {
      if (name === current) showCurrent(link);
      else link.removeAttribute("aria-current");
    }
  }

  showLink({ state }) {
    this.link.dataset.state = state;
    setText(this.link, this.app.isStranger ? "" : LINK_TEXTS[state]);
  }

  countSoon() {
    this.counting ??= setTimeout(() => { this.counting = null; this.count(); }, this.counted ? COUNT_EVERY_MS : 0);
  }

  // Open incidents, beside the name of the view that lists them.
  async count() {
    if (this.app.isStranger) return;
    this.counted = true;
    try {
      const { open_incidents: open } = await this.app.api.get("/v1/devices/summary");
      setText(this.badge, open > 999 ? "999+" : String(open));
      this.badge.setAttribute("aria-label", `${open} open`);
      this.badge.hidden = !open;
    } catch {
      // The next alert counts again.
    }
  }

  zoneChoice() {
    const { time } = this.app;
    const options = time.zones.map((zone) => h("option", { value: zone, selected: zone === time.zone }, zone));
    return h("select", { "aria-label": "Time zone", title: `Times are shown in this zone; that of this browser is ${LOCAL_ZONE}.`,
      onchange: (event) => time.setZone(event.target.value) }, options);
  }

  themeButton() {
    const label = () => `Colours: ${read(THEME) ?? "auto"}`;
    const button = h("button", { type: "button", class: "icon theme", title: label(), "aria-label": label(), onclick: () => {
      setTheme(THEMES[(THEMES.indexOf(read(THEME) ?? "auto") + 1) % THEMES.length]);
      button.title = label();
      button.setAttribute("aria-label", label());
    } });
    return button;
  }
}

// On a phone the names do not fit beside each other.
function showCurrent(link) {
  link.setAttribute("aria-current", "page");
  link.scrollIntoView({ block: "nearest", inline: "center" });
}

function setTheme(theme) {
  if (theme) write(THEME, theme);
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  dispatchEvent(new Event("themechange"));
}
