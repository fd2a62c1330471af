// The incidents that a list shows: last recorded first, a bounded number, always as the API has them.

const PATH = "/v1/incidents";
const PAGE_ROWS = 100;
export const ROWS_MAX = 1_000;  // More are found with the filters; a page with more rows gets slow.

export class IncidentList {
  // `filters`: state, severity, rule_id, device_id; null restricts nothing.
  constructor(api, filters) {
    Object.assign(this, { api, filters });
    this.rows = [];
    this.next = null;
    this.isLong = false;  // Whether somebody asked for more than the newest page.
  }

  // Read the newest page again, and keep the older ones below it.
  async refresh() {
    const { rows, next } = await this.api.page(PATH, { ...this.filters, limit: PAGE_ROWS });
    const oldest = rows.at(-1)?.id ?? 0;
    const older = next && this.isLong ? this.rows.filter(({ id }) => id < oldest) : [];
    if (!older.length) this.next = next;
    this.keep([...rows, ...older]);
  }

  async more() {
    const { rows, next } = await this.api.pageAt(this.next);
    this.isLong = true;
    this.next = next;
    this.keep([...this.rows, ...rows]);
  }

  keep(rows) {
    this.rows = rows.slice(0, ROWS_MAX);
    this.isFull = rows.length >= ROWS_MAX;
    if (this.isFull) this.next = null;
  }

  // What the stream says about an incident that is shown; the next refresh reads the newest ones anyway. Returns
  // whether anything changed.
  apply(type, alert) {
    const at = this.rows.findIndex(({ id }) => id === alert.incident_id);
    if (at < 0 || type === "alert") return false;
    const changed = { ...this.rows[at], ...changes(type, alert) };
    if (this.holds(changed)) this.rows[at] = changed;
    else this.rows.splice(at, 1);
    return true;
  }

  holds({ state }) {
    const wanted = this.filters.state;
    return !wanted || wanted === state || (wanted === "open" && state !== "resolved");
  }
}

function changes(type, alert) {
  if (type === "resolved") return { state: "resolved", resolved_at: alert.timestamp, resolved_by: alert.event_id };
  return { state: "acknowledged", acknowledged_at: alert.timestamp, acknowledged_by: alert.by, acknowledged_note: alert.note };
}
