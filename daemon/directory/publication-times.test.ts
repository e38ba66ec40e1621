import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PublicationTimes } from './publication-times.ts';

const NOW = 1_800_000_000;

function disk() {
  const held = new Map<string, Buffer>();
  return {
    read: (name: string) => held.get(name),
    write: (name: string, bytes: Uint8Array) => void held.set(name, Buffer.from(bytes)),
    damage: (bytes: Buffer) => {
      for (const name of held.keys()) held.set(name, bytes);
    },
  };
}

test('descriptors of one second differ in age, also when the node was started again between them', () => {
  const files = disk();
  const times = new PublicationTimes(files);
  assert.deepEqual([times.next(NOW), times.next(NOW), times.next(NOW)], [NOW, NOW + 1, NOW + 2]);
  const again = new PublicationTimes(files);
  assert.equal(again.next(NOW), NOW + 3);
  assert.equal(again.next(NOW + 100), NOW + 100, 'and then it is the clock again');
});

test('strictly rising over restarts and a clock that goes back a little; never further ahead than others allow', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ stepSeconds: fc.integer({ min: -20, max: 100 }), restarts: fc.boolean() }), {
        maxLength: 30,
      }),
      (steps) => {
        const files = disk();
        let times = new PublicationTimes(files);
        let now = NOW;
        let newest = NOW;
        let last = 0;
        for (const { stepSeconds, restarts } of steps) {
          if (restarts) times = new PublicationTimes(files);
          now = Math.max(now + stepSeconds, newest - 20);
          newest = Math.max(newest, now);
          const published = times.next(now);
          assert.ok(published > last && published >= now && published <= now + 60, `${published} after ${last}`);
          last = published;
        }
      },
    ),
  );
});

test('a clock that was far ahead and is right again, or a file that says nothing, does not keep a node out', () => {
  const files = disk();
  new PublicationTimes(files).next(NOW + 86_400);
  assert.equal(new PublicationTimes(files).next(NOW), NOW);
  files.damage(Buffer.alloc(3));
  assert.equal(new PublicationTimes(files).next(NOW), NOW);
});
