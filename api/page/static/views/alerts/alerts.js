// Alerts: incidents that are open or were, and silences.

import { failure } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { filterBar, filtersOf } from "./filters.js";
import { Incidents } from "./incidents.js";
import { silences } from "./silences.js";

export const title = "Alerts";

const RULES_MAX = 1_000;

export async function show(root, route, app) {
  const rules = await app.api.get("/v1/alerts", { limit: RULES_MAX });
  const part = route.params.show === "silences" ? "silences" : "incidents";
  const place = h("div", {});
  fill(root, h("div", { class: "head" }, h("h1", {}, "Alerts"), parts(part)), place);
  return part === "silences" ? showSilences(app, place, rules) : showIncidents(app, place, rules, route.params);
}

function parts(current) {
  const link = (name, href, text) => h("a", { href, "aria-current": name === current ? "true" : null }, text);
  return h("nav", { class: "parts", "aria-label": "Parts of this view" },
    link("incidents", "#/alerts", "Incidents"), link("silences", "#/alerts?show=silences", "Silences"));
}

async function showSilences(app, place, rules) {
  await silences(app, place, rules)();
  return () => {};
}

async function showIncidents(app, place, rules, params) {
  let incidents;
  const list = h("div", {});
  const begin = async (chosen) => {
    incidents?.stop();
    incidents = new Incidents(app, list, filtersOf(chosen), rules);
    try {
      await incidents.load();
    } catch (problem) {
      incidents.stop();
      throw problem;
    }
  };
  const changed = (chosen) => {
    app.remember(["alerts"], chosen);
    begin(chosen).catch((problem) => fill(list, failure(problem, () => begin(chosen))));
  };
  fill(place, filterBar(app, params, rules, changed), list);
  await begin(params);
  return () => incidents.stop();
}
