// Starts the page: navigation, addresses, one stream, and the view that the address names.

import { Api, Problem } from "./lib/api.js";
import { failure, nothingHere, toast } from "./lib/components.js";
import { fill, h } from "./lib/dom.js";
import { Live } from "./lib/live.js";
import { address, parse } from "./lib/router.js";
import { Time } from "./lib/time.js";
import { typeAgain, typedIn } from "./lib/typed.js";
import { Bar } from "./bar.js";
import { HOME, routeOf, ROUTES } from "./routes.js";
import { logoutButton } from "./views/login.js";

const LOGIN = "/login";
const OTHERS_AFTER_MS = 2_000;  // The first view goes on loading what it shows.

class App {
  constructor() {
    this.api = new Api(() => this.sessionEnded());
    this.live = new Live(this.api);
    this.time = new Time();
    this.info = {};
    this.root = document.getElementById("main");
    this.bar = new Bar(document.getElementById("bar"), this);
    this.bar.extra = () => logoutButton(this);
    this.turn = 0;  // Of views: a slow one must not be drawn over a later one.
    this.cleanup = null;
    this.shown = null;  // The path of the view.
    this.isDrawn = false;  // All of it is there, and what was typed into it before.
    this.isNew = false;  // It is another view than before, also while views that were left are still loading.
    this.typed = null;  // What was typed into the view of a path, which will be drawn again.
  }

  async start() {
    addEventListener("hashchange", () => this.show());
    addEventListener("unhandledrejection", (event) => sayProblem(event));
    this.time.onChange(() => this.showAgain());
    await this.refreshInfo();
    await this.show();
    setTimeout(loadAll, OTHERS_AFTER_MS);
  }

  // Read /v1/info, at the start and after a login or logout; it decides what is offered and whether the stream runs.
  async refreshInfo() {
    try {
      this.info = await this.api.get("/v1/info");
    } catch (problem) {
      this.info = {};
      this.bar.draw();
      if (!(problem instanceof Problem)) throw problem;
      setTimeout(() => this.refreshInfo().then(() => this.showAgain()), 3_000);
      return;
    }
    if (this.isStranger) this.live.stop();
    else this.live.start();
    this.bar.draw();
  }

  // Authentication is on, and this browser has no session.
  get isStranger() {
    return Boolean(this.info.authentication) && this.info.version === undefined;
  }

  // Whether the visitor may do what needs a scope; with authentication off, everything.
  may(scope) {
    const { scopes } = this.info;
    return !this.isStranger && (!scopes || scopes.includes("admin") || scopes.includes(scope));
  }

  // Go to an address, or replace the present one without a new entry in the history.
  navigate(hash, { replace = false } = {}) {
    if (hash === location.hash) return this.show();
    if (replace) {
      history.replaceState(null, "", hash);
      return this.show();
    }
    location.hash = hash;
    return undefined;
  }

  // Write what a view shows into the address, without drawing the view again. A view that was left writes nothing.
  remember(segments, params, { replace = true } = {}) {
    const hash = address(segments, params);
    if (hash === location.hash || parse(hash).path !== this.shown) return;
    if (replace) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
  }

  // Unlike after a logout, the same person goes on. Several requests may learn of it, also behind the login.
  sessionEnded() {
    if (this.shown !== LOGIN) this.keepTyped();
    this.login();
  }

  login() {
    const { segments } = parse(location.hash);
    if (segments[0] === "login") return;
    this.live.stop();
    const next = location.hash.length > 2 ? location.hash : HOME;
    this.navigate(address(["login"], { next }), { replace: true });
  }

  // Draw the view again, with what was typed into it.
  showAgain() {
    this.keepTyped();
    return this.show();
  }

  // What waits to be typed again is not replaced by a form that is still empty.
  keepTyped() {
    if (this.isDrawn || !this.typed) this.typed = { path: this.shown, controls: typedIn(this.root) };
  }

  async show() {
    const route = parse(location.hash);
    if (!route.segments.length) return this.navigate(HOME, { replace: true });
    if (this.isStranger && route.segments[0] !== "login") return this.login();
    const found = routeOf(route.segments);
    const turn = (this.turn += 1);
    this.cleanup?.();
    this.cleanup = null;
    this.live.watch([]);  // The next view says what it shows.
    if (this.shown !== route.path) this.isNew = this.shown !== null;  // The first view leaves the focus where it is.
    if (this.typed?.path !== route.path && found?.name !== "login") this.typed = null;
    this.shown = route.path;
    this.isDrawn = false;
    const place = h("div", { class: `view ${found?.name ?? "nothing"}` });
    fill(this.root, place);
    this.bar.mark(found);
    const cleanup = await this.draw(found, place, route);
    if (turn !== this.turn) return cleanup?.();
    this.cleanup = cleanup;
    if (this.typed?.path === route.path && typeAgain(place, this.typed.controls)) this.typed = null;
    this.isDrawn = true;
    if (this.isNew) this.arrive();
    return undefined;
  }

  async draw(found, place, route) {
    this.setTitle(found?.nav);
    if (!found) {
      fill(place, nothingHere());
      return null;
    }
    try {
      const view = await loaded(found);
      if (this.shown === route.path) this.setTitle(typeof view.title === "function" ? view.title(route) : view.title);
      return await view.show(place, route, this);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(place, failure(problem, () => this.show()));
      return problem.status === 0 ? this.live.on("status", ({ state }) => state === "live" && this.show()) : null;
    }
  }

  setTitle(title) {
    document.title = title ? `${title} · Voltwire` : "Voltwire";
  }

  // A new view begins at its top, and a screen reader at its heading.
  arrive() {
    this.isNew = false;
    scrollTo(0, 0);
    this.root.focus({ preventScroll: true });
  }
}

// The module of a view. Each has what only it needs, so that the first view does not wait for the others.
async function loaded({ load }) {
  try {
    return await load();
  } catch {
    throw new Problem(0, "This view cannot be loaded: the server cannot be reached, or has another version now. Load the page again.");
  }
}

// A request that failed after a click is shown to the visitor; other errors are faults of the page, and go to the console.
function sayProblem(event) {
  if (!(event.reason instanceof Problem)) return;
  event.preventDefault();
  if (event.reason.status !== 401) toast(event.reason.detail, { kind: "bad" });  // The login is shown.
}

// What is loaded needs no server any more.
function loadAll() {
  for (const { load } of ROUTES) load().catch(() => {});  // A view that is asked for says it.
}

export const app = new App();
app.start();
