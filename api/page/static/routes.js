// Every view: the first segment of its address, how its module is loaded, and its name in the navigation.

// `single`: the view of one thing, whose address has a second segment. `nav`: absent from the navigation if null.
// `only(app)`: whether it is offered at all.
export const ROUTES = [
  { name: "fleet", load: () => import("./views/fleet/fleet.js"), nav: "Fleet" },
  { name: "devices", single: true, load: () => import("./views/device/device.js"), nav: null, partOf: "fleet" },
  { name: "alerts", load: () => import("./views/alerts/alerts.js"), nav: "Alerts" },
  { name: "alerts", single: true, load: () => import("./views/alerts/incident.js"), nav: null, partOf: "alerts" },
  { name: "rules", load: () => import("./views/rules/rules.js"), nav: "Rules" },
  { name: "rules", single: true, load: () => import("./views/rules/rule.js"), nav: null, partOf: "rules" },
  { name: "channels", load: () => import("./views/channels/channels.js"), nav: "Channels" },
  { name: "dead-letters", load: () => import("./views/dead_letters/dead_letters.js"), nav: "Dead letters" },
  { name: "keys", load: () => import("./views/keys/keys.js"), nav: "Keys" },
  { name: "login", load: () => import("./views/login.js"), nav: null },
];

export const HOME = "#/fleet";

export function routeOf(segments) {
  const [name, ...rest] = segments;
  return ROUTES.find((each) => each.name === name && Boolean(each.single) === rest.length > 0);
}
