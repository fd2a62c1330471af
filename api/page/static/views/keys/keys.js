// Who may get in: keys of people and programs, secrets of devices, and the audit of what was done.

import { fill, h } from "../../lib/dom.js";
import { keepMoments } from "../../widgets/moments.js";
import { viewHead } from "../../widgets/pieces.js";
import { audit } from "./audit.js";
import { devices } from "./devices.js";
import { keys } from "./key_list.js";

export const title = "Keys";

export async function show(root, route, app) {
  const places = [h("section", {}), h("section", {}), h("section", {})];
  const sections = [keys, devices, audit].map((section, place) => section(app, places[place], () => changed()));
  const changed = () => Promise.all(sections.map((reload) => reload()));
  fill(root, viewHead("Keys"), app.info.authentication ? null : notice(), places);
  await changed();
  return keepMoments(root);
}

function notice() {
  return h("p", { class: "notice" },
    "Authentication is off: nobody is asked for a key. Keys and secrets can be made here already; they count once Voltwire is started with ",
    h("code", {}, "AUTH=on"), ".");
}
