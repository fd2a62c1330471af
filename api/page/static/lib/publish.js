// The lines that send a first event, with the true addresses of this installation.

const EVENT = '{"metrics":{"soc_percent":67.5,"voltage_v":385.2}}';

// [{ label, line }] for emptyState.
export function publishLines(info, deviceId = "my-device") {
  return [
    { label: "Over MQTT", line: mosquitto(info, deviceId) },
    { label: "Over HTTP", line: curl(info, deviceId) },
  ];
}

function mosquitto({ mqtt_url: url, authentication }, deviceId) {
  const { hostname, port, protocol } = parts(url);
  const tls = protocol === "mqtts:" ? " --capath /etc/ssl/certs" : "";
  const login = authentication ? ` -u ${quoted(deviceId)} -P 'vwd_…' -i ${quoted(deviceId)}` : "";
  return `mosquitto_pub -h ${hostname} -p ${port || (tls ? 8883 : 1883)}${tls}${login} -q 1 -t ${quoted(`devices/${deviceId}/telemetry`)} -m '${EVENT}'`;
}

function curl({ http_url: url, authentication }, deviceId) {
  const login = authentication ? " -H 'Authorization: Bearer vwd_…'" : "";
  const body = EVENT.replace("{", `{"device_id":${JSON.stringify(deviceId)},`);
  return `curl ${quoted(`${url}/v1/events`)}${login} -H 'Content-Type: application/json' -d '${body}'`;
}

// A URL of another scheme than HTTP has no host for some browsers.
function parts(url) {
  const { hostname, port } = new URL(url.replace(/^mqtts?:/, "http:"));
  return { hostname, port, protocol: url.slice(0, url.indexOf(":") + 1) };
}

function quoted(text) {
  return /^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
