// Report incidents, slow endpoints and probing clients of an access log.
// Inputs on standard input, result on standard output, progress on standard error.

const LINE =
  /^(\S+) \S+ \S+ \[(\d{2})\/(\w{3})\/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-]\d{4})\] "(\S+) (\S+)[^"]*" (\d{3}) (\d+|-) "[^"]*" "([^"]*)"(?: (\d+\.\d+))?$/;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const PROBES = [/\/wp-(admin|login|content)/, /\.env\b/, /\/\.git\//, /\/phpmyadmin/i, /\.\.\//, /\/cgi-bin\//];

function parse(text) {
  const found = LINE.exec(text);
  if (!found) return null;
  const [, client, day, month, year, hour, minute, second, zone, method, target, status, , agent, seconds] = found;
  const offset = Number(zone.slice(0, 3)) * 60 + Number(zone[0] + zone.slice(3));
  const time = Date.UTC(+year, MONTHS.indexOf(month), +day, +hour, +minute, +second) - offset * 60_000;
  // /orders/1234/items and /orders/77/items are one endpoint.
  const path = target.split("?")[0].replace(/\/\d+(?=\/|$)/g, "/{id}");
  return { client, time, method, path, target, status: +status, agent, seconds: seconds ? +seconds : null };
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

function incidents(requests, minutes) {
  const size = minutes * 60_000;
  const buckets = new Map();
  for (const request of requests) {
    const start = Math.floor(request.time / size) * size;
    const bucket = buckets.get(start) ?? { total: 0, failed: 0, paths: new Map() };
    bucket.total += 1;
    if (request.status >= 500) {
      bucket.failed += 1;
      bucket.paths.set(request.path, (bucket.paths.get(request.path) ?? 0) + 1);
    }
    buckets.set(start, bucket);
  }
  const open = [];
  for (const [start, bucket] of [...buckets].sort((a, b) => a[0] - b[0])) {
    if (bucket.failed < 3 || bucket.failed / bucket.total < 0.1) continue;
    const last = open.at(-1);
    const joined = last && last.end === start ? last : { start, end: start, total: 0, failed: 0, paths: new Map() };
    if (joined !== last) open.push(joined);
    joined.end = start + size;
    joined.total += bucket.total;
    joined.failed += bucket.failed;
    for (const [path, count] of bucket.paths) joined.paths.set(path, (joined.paths.get(path) ?? 0) + count);
  }
  return open.map(({ start, end, total, failed, paths }) => ({
    from: new Date(start).toISOString(),
    to: new Date(end).toISOString(),
    requests: total,
    failed,
    worst_endpoint: [...paths].sort((a, b) => b[1] - a[1])[0][0],
  }));
}

function slowest(requests) {
  const byPath = Map.groupBy(requests.filter((request) => request.seconds !== null), (r) => `${r.method} ${r.path}`);
  return [...byPath]
    .filter(([, group]) => group.length >= 5)
    .map(([endpoint, group]) => {
      const sorted = group.map((request) => request.seconds).sort((a, b) => a - b);
      return { endpoint, requests: sorted.length, p50: percentile(sorted, 0.5), p95: percentile(sorted, 0.95) };
    })
    .sort((a, b) => b.p95 - a.p95)
    .slice(0, 5);
}

function suspects(requests) {
  return [...Map.groupBy(requests, (request) => request.client)]
    .map(([client, group]) => {
      const probes = group.filter((request) => PROBES.some((probe) => probe.test(request.target)));
      const refused = group.filter((request) => [401, 403, 404].includes(request.status));
      return { client, requests: group.length, probes: probes.length, refused: refused.length };
    })
    .filter(({ requests: count, probes, refused }) => probes >= 2 || (count >= 20 && refused / count > 0.6))
    .sort((a, b) => b.probes - a.probes || b.refused - a.refused);
}

let text = "";
for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
const { log, bucket_minutes: minutes = 5 } = JSON.parse(text);
const lines = log.split("\n").filter((line) => line.trim());
const requests = lines.map(parse).filter(Boolean);
console.error(`${requests.length} of ${lines.length} lines read`);
const failed = requests.filter((request) => request.status >= 500).length;
console.log(
  JSON.stringify({
    requests: requests.length,
    unreadable: lines.length - requests.length,
    error_rate: requests.length ? Number((failed / requests.length).toFixed(4)) : 0,
    incidents: incidents(requests, minutes),
    slowest: slowest(requests),
    suspects: suspects(requests),
  }),
);
