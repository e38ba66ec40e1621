/**
 * Puts a client's data a day back, with the keys that the network really has: the view on its disk becomes the one of the
 * same nodes of 24 epochs ago, signed by the authority and the nodes, and the peers it knows were heard of a day ago.
 * Nothing in the client is told: its clock is right and its checks are all there.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { decodeDescriptor, nodeIdHex, signDescriptor } from '@nyx/core/directory/descriptor.ts';
import { buildView, decodeViewBundle, encodeViewBundle, signView } from '@nyx/core/directory/view.ts';
import { KeyStore } from '@nyx/daemon/directory/key-store.ts';
import { SealedFiles } from '@nyx/daemon/directory/sealed-files.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import type { LocalNetwork, LocalNode } from '@nyx/daemon/local-network.ts';

const DAY_SECONDS = 86_400;
const suite = createNativeSuite();

/** `client` must not run. Returns the epoch of the view that it has now. */
export function putADayBack(network: LocalNetwork, client: LocalNode): number {
  const file = join(network.folder, client.name, 'view.bin');
  const present = decodeViewBundle(readFileSync(file));
  const { epochSeconds } = present.view;
  const daysEpochs = DAY_SECONDS / epochSeconds;
  assert.ok(Number.isInteger(daysEpochs), 'a day is a whole number of epochs');
  const identities = new Map(
    network.nodes
      .filter(({ role }) => role !== 'client')
      .map(({ name }) => {
        const { identity, nodeId } = new KeyStore(new SealedFiles(join(network.folder, name)), suite);
        return [nodeIdHex(nodeId), identity];
      }),
  );
  const nodes = present.entries.map(({ status, descriptor }) => {
    const { nodeId, signature: _, body: __, ...fields } = decodeDescriptor(descriptor, suite);
    const old = {
      ...fields,
      // The secrets of these went a day ago, as those of the real ones have by now.
      mixKeys: fields.mixKeys.map(({ epoch }) => ({
        epoch: epoch - daysEpochs,
        x25519: new Uint8Array(randomBytes(32)),
        kem: new Uint8Array(randomBytes(1184)),
      })),
      published: fields.published - DAY_SECONDS,
      expires: fields.expires - DAY_SECONDS,
    };
    const identity = identities.get(nodeIdHex(nodeId));
    assert.ok(identity !== undefined, 'every node of the view is one of the network');
    return {
      descriptor: signDescriptor(old, identity, suite),
      status: { ...status, firstEpoch: status.firstEpoch - daysEpochs },
    };
  });
  const { validAfter, freshUntil, validUntil, params } = present.view;
  const dates = {
    validAfter: validAfter - DAY_SECONDS,
    freshUntil: freshUntil - DAY_SECONDS,
    validUntil: validUntil - DAY_SECONDS,
  };
  const seed = Buffer.from(readFileSync(join(network.folder, 'authority-0.key'), 'utf8').trim(), 'hex');
  const signed = signView(buildView(nodes, { epochSeconds, params, ...dates }, suite), suite.ed25519(seed));
  writeFileSync(file, encodeViewBundle(signed));
  agePeers(join(network.folder, client.name, 'p2p.sqlite'));
  return signed.view.epoch;
}

/** The dates in libp2p's stored peers are varints of milliseconds, six bytes long then as now. */
function agePeers(file: string): void {
  const database = new DatabaseSync(file);
  const nowMs = Date.now();
  const rows = database.prepare('SELECT key, value FROM peers').all() as { key: string; value: Uint8Array }[];
  assert.ok(rows.length > 0, 'the client knows peers');
  let dates = 0;
  for (const { key, value } of rows) {
    for (let at = 0; at + 6 <= value.length; at++) {
      const date = readVarint(value, at);
      if (date === undefined || date > nowMs || date < nowMs - 3_600_000) continue;
      writeVarint(value, at, date - DAY_SECONDS * 1000);
      dates++;
    }
    const update = database.prepare('UPDATE peers SET value = ?, updated = updated - ? WHERE key = ?');
    update.run(value, DAY_SECONDS * 1000, key);
  }
  database.close();
  assert.ok(dates >= rows.length, `${dates} dates in ${rows.length} peers`);
}

function readVarint(bytes: Uint8Array, at: number): number | undefined {
  let value = 0;
  for (let i = 0; i < 6; i++) {
    const byte = bytes[at + i]!;
    if (i < 5 !== byte > 127) return undefined;
    value += (byte & 127) * 2 ** (7 * i);
  }
  return value;
}

function writeVarint(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 6; i++) bytes[at + i] = (Math.floor(value / 2 ** (7 * i)) & 127) | (i < 5 ? 128 : 0);
}
