// Every view: the first segment of its address, its module, and its name in the navigation.

import * as device from "./views/device.js";
import * as fleet from "./views/fleet.js";

// `single`: the view of one thing, whose address has a second segment. `nav`: absent from the navigation if null.
// `only(app)`: whether it is offered at all.
export const ROUTES = [
  { name: "fleet", view: fleet, nav: "Fleet" },
  { name: "devices", single: true, view: device, nav: null, partOf: "fleet" },
];

export const HOME = "#/fleet";

export function routeOf(segments) {
  const [name, ...rest] = segments;
  return ROUTES.find((each) => each.name === name && Boolean(each.single) === rest.length > 0);
}
