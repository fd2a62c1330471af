// How many rows the lists of this view show at first; on a phone each takes several lines.

const PHONE = "(max-width: 760px)";

export function pageRows() {
  return matchMedia(PHONE).matches ? 8 : 20;
}
