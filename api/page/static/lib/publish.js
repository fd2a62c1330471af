// The lines that send a first event, with the true addresses of this installation.

const EVENT = '{"metrics":{"soc_percent":67.5,"voltage_v":385.2}}';

// [{ label, line }] for emptyState.
export function publishLines(info, deviceId = "my-device") {
  return [
    { label: "Over MQTT", line: mosquitto(info, deviceId) },
    { label: "Over HTTP", line: curl(info, deviceId) },
  ];
}

function mosquitto(info, deviceId) {
  return mosquittoLine(info, deviceId, info.authentication ? { login: deviceId, secret: "vwd_…" } : null);
}

// With the credentials of the device, if it needs some: { login, secret }.
export function mosquittoLine({ mqtt_url: url }, deviceId, credentials) {
  const { hostname, port, protocol } = parts(url);
  const tls = protocol === "mqtts:" ? " --capath /etc/ssl/certs" : "";
  const login = credentials ? ` -i ${quoted(deviceId)} -u ${quoted(credentials.login)} -P ${quoted(credentials.secret)}` : "";
  return `mosquitto_pub -h ${hostname} -p ${port || (tls ? 8883 : 1883)}${tls}${login} -q 1 -t ${quoted(`devices/${deviceId}/telemetry`)} -m '${EVENT}'`;
}

function curl({ http_url: url, authentication }, deviceId) {
  const login = authentication ? " -H 'Authorization: Bearer vwd_…'" : "";
  const body = EVENT.replace("{", `{"device_id":${JSON.stringify(deviceId)},`);
  return `curl ${quoted(`${url}/v1/events`)}${login} -H 'Content-Type: application/json' -d '${body}'`;
}

// A line that posts something with a key, if one is needed.
export function postLine({ http_url: url, authentication }, path, body) {
  const login = authentication ? " -H 'Authorization: Bearer vwk_…'" : "";
  return `curl ${quoted(`${url}${path}`)}${login} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`;
}

// A URL of another scheme than HTTP has no host for some browsers.
function parts(url) {
  const { hostname, port } = new URL(url.replace(/^mqtts?:/, "http:"));
  return { hostname, port, protocol: url.slice(0, url.indexOf(":") + 1) };
}

function quoted(text) {
  return /^[\w./:@%-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
