// Every view: the first segment of its address, its module, and its name in the navigation.

import * as alerts from "./views/alerts/alerts.js";
import * as channels from "./views/channels/channels.js";
import * as deadLetters from "./views/dead_letters/dead_letters.js";
import * as device from "./views/device/device.js";
import * as fleet from "./views/fleet/fleet.js";
import * as incident from "./views/alerts/incident.js";
import * as keys from "./views/keys/keys.js";
import * as login from "./views/login.js";
import * as rule from "./views/rules/rule.js";
import * as rules from "./views/rules/rules.js";

// `single`: the view of one thing, whose address has a second segment. `nav`: absent from the navigation if null.
// `only(app)`: whether it is offered at all.
export const ROUTES = [
  { name: "fleet", view: fleet, nav: "Fleet" },
  { name: "devices", single: true, view: device, nav: null, partOf: "fleet" },
  { name: "alerts", view: alerts, nav: "Alerts" },
  { name: "alerts", single: true, view: incident, nav: null, partOf: "alerts" },
  { name: "rules", view: rules, nav: "Rules" },
  { name: "rules", single: true, view: rule, nav: null, partOf: "rules" },
  { name: "channels", view: channels, nav: "Channels" },
  { name: "dead-letters", view: deadLetters, nav: "Dead letters" },
  { name: "keys", view: keys, nav: "Keys" },
  { name: "login", view: login, nav: null },
];

export const HOME = "#/fleet";

export function routeOf(segments) {
  const [name, ...rest] = segments;
  return ROUTES.find((each) => each.name === name && Boolean(each.single) === rest.length > 0);
}
