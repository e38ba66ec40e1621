import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DATAGRAM_BYTES, HEADER_OFFSET } from '../wire/datagram.ts';
import { Cid, type CidEntry, CidTable } from './cid-table.ts';

interface Entry extends CidEntry<string> {}

function find(table: CidTable<string, Entry>, cid: Cid, link: string): Entry | undefined {
  const datagram = new Uint8Array(DATAGRAM_BYTES);
  cid.write(datagram, HEADER_OFFSET);
  return table.find(datagram, link);
}

test('a CID finds its entry on its own link only, whatever else shares its hash', () => {
  // Few values, so that hashes collide all the time.
  const arbitraryKey = fc.record({ a: fc.nat(2), b: fc.nat(1), c: fc.nat(1), link: fc.constantFrom('x', 'y') });
  fc.assert(
    fc.property(fc.array(fc.record({ key: arbitraryKey, remove: fc.boolean() }), { maxLength: 60 }), (steps) => {
      const table = new CidTable<string, Entry>();
      const model = new Map<string, Entry>();
      for (const { key, remove } of steps) {
        const name = JSON.stringify(key);
        const cid = new Cid(key.a - 1, key.b, key.c);
        const present = model.get(name);
        if (remove) {
          if (present !== undefined) table.remove(present);
          model.delete(name);
        } else {
          const entry: Entry = { cid, link: key.link, chain: undefined };
          assert.equal(table.add(entry), present === undefined);
          if (present === undefined) model.set(name, entry);
        }
        assert.equal(table.size, model.size);
        assert.equal(find(table, cid, key.link), model.get(name));
        assert.equal(table.get(cid, key.link), model.get(name));
      }
    }),
    { numRuns: 300 },
  );
});
