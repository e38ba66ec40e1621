/** The figures of dht.json as a page for docs/. */
import type { DhtReport } from './run.ts';

const mb = (bytes: number) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
const percent = (share: number, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const seconds = (value: number) => (Number.isFinite(value) ? `${value.toFixed(1)} s` : 'not within the hour');

export function summarize(report: DhtReport): string {
  const { options, hours, spread, eclipse } = report;
  const settled = hours.slice(1);
  const sum = (of: (hour: DhtReport['hours'][number]) => number) =>
    settled.reduce((total, hour) => total + of(hour), 0);
  const perNodeHour = (bytes: number) => bytes / report.up / settled.length;
  const asked = sum((hour) => hour.asked);
  const rows: [string, number][] = [
    [
      'the view by deltas, one an hour (whole by a newcomer)',
      spread.delta.bytes + options.churnPerHour * spread.whole.bytes,
    ],
    ['keeping routing tables fresh', perNodeHour(sum((hour) => hour.bytes.refresh))],
    ['own record, put every ten minutes to twenty peers', perNodeHour(sum((hour) => hour.bytes.publish))],
    ['joining, by those that do', perNodeHour(sum((hour) => hour.bytes.join))],
    ['own descriptor to five authorities', report.announceBytes],
  ];
  const total = rows.reduce((bytes, [, each]) => bytes + each, 0);
  return `# The DHT and the spreading of the view, simulated

Written by \`npm run sim:dht -- --nodes ${options.nodes} --lookups ${options.lookups}\` (seed ${options.seed}): ${options.nodes} nodes, of which ${percent(options.churnPerHour, 0)} leave every hour and half of these come back after some hours; ${hours.length} hours of virtual time,
the first of which, in which all join, is left out. All figures: [dht.json](dht.json).

**Real**: identity keys, descriptors and their signatures, the count of votes, views and deltas, and the rules of records (validity, place, which of two is newer:
\`daemon/p2p/record-rules.ts\`; a record is verified once, not by each of its twenty holders). **Model**: kad-dht itself (\`test/sim/dht-scale/kad-model.ts\`: buckets of 20, four disjoint paths of four
questions each, a query of 20 s at most; who is gone is silent for the 5 s that a dial waits), the polling for views (\`view-spread.ts\`), bytes of messages, round trips
(nodes on a map 100 ms wide), bandwidths (log-normal, median 4 MB/s). Not in it: loss, nodes without a public address, busy machines. Every ${options.refreshMinutes} minutes a node walks to itself and to every length of common prefix
that it knows peers of (\`--refresh MINUTES\`).

## Lookups of one node's record

| hour | asked | found | the newest found | questions each | of these to nodes that are gone | time, half / 90 % / 99 % below |
| --- | --- | --- | --- | --- | --- | --- |
${hours
  .map(
    ({ hour, asked, found, current, questions, unanswered, ms }) =>
      `| ${hour} | ${asked} | ${percent(found / asked, 2)} | ${percent(current / asked, 2)} | ${(questions / asked).toFixed(0)} | ${percent(unanswered / questions)} | ${seconds(ms.p50 / 1000)} / ${seconds(ms.p90 / 1000)} / ${seconds(ms.p99 / 1000)} |`,
  )
  .join('\n')}

After the first hour ${percent(sum((hour) => hour.found) / asked, 2)} are found. A lookup goes on until all paths have converged, so it is the gone nodes' silence that takes the time. Nothing on a client's way to a path waits for one: paths
come from the view.

## Traffic of the directory, per node and hour

| what | bytes |
| --- | --- |
${rows.map(([what, bytes]) => `| ${what} | ${mb(bytes)} |`).join('\n')}
| together | ${mb(total)} (${(total / 3600 / 1000).toFixed(1)} kB/s) |

Each byte counted once: as much is received as sent, on average. An authority gets ${mb(report.descriptorBytes * report.up)} of descriptors an hour.

## How a new view gets around

From five authorities with 12.5 MB/s each; the others serve what they have got, eight at a time, with the bandwidth they have.

| | size | half have it after | 90 % | 99 % | transfers that took over 60 s |
| --- | --- | --- | --- | --- | --- |
${Object.entries(spread)
  .map(
    ([name, { bytes, seconds: at, timeouts }]) =>
      `| ${name === 'whole' ? 'whole bundles' : 'deltas'} | ${mb(bytes)} | ${seconds(at.p50)} | ${seconds(at.p90)} | ${seconds(at.p99)} | ${timeouts} |`,
  )
  .join('\n')}

![Share of the nodes that have the new view](dht-view.svg)

With deltas the view that a node chooses from is on average ${((1800 + spread.delta.seconds.p50) / 60).toFixed(0)} minutes old, the age of what the authorities saw: half an epoch and the time to get it.

## One record eclipsed

Attackers with ids next to one key, known to everybody around it, who answer with each other alone and hold another node's record under the key. The owner puts a record that is new; then
somebody looks for it (100 times each).

| attackers at the key | record found | another one believed |
| --- | --- | --- |
${eclipse.map(({ attackers, found, forged }) => `| ${attackers} | ${percent(found, 0)} | ${forged} |`).join('\n')}

A key's neighbourhood can be taken over for the price of some dozens of libp2p keys: the DHT keeps no attacker from *hiding* a record. It can't bring one in, and hiding gains nothing for the
choice of paths, which comes from the view. What does depend on a lookup is how a node first finds an authority, and records of services.
`;
}
